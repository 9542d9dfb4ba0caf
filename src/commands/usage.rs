//! What this process used, as the system tells it.

/// The most memory this process ever held, in bytes; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    status("VmHWM:")
}

/// The memory this process holds, in bytes; 0 where the system does not say.
pub fn rss_bytes() -> u64 {
    status("VmRSS:")
}

/// Lets the peak begin at what is held now. Where the system does not allow it the peak stays.
pub fn reset_peak_rss() {
    // 5 is "reset the peak" in proc(5).
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The processor seconds of all threads so far, those in the kernel too; 0 where the system does
/// not say.
pub fn cpu_seconds() -> f64 {
    // The ticks of proc(5), a hundredth of a second on every Linux there is.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name stands in parentheses and may hold spaces; user time is the 14th field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let times = fields.split_whitespace().skip(11).take(2);
    times
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes * 1024)
}
