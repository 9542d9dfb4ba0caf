//! The visits of the demo: a pure function of a seed and a number, so that any run can be repeated.

use std::fmt::Write;

use crate::time::Timestamp;

/// Pages and countries, the most visited first.
const PAGES: [&str; 24] = [
    "/",
    "/pricing",
    "/docs",
    "/docs/start",
    "/blog",
    "/login",
    "/docs/windows",
    "/signup",
    "/blog/two-clocks",
    "/docs/queries",
    "/search",
    "/about",
    "/docs/streams",
    "/account",
    "/blog/exactly-once",
    "/docs/tables",
    "/changelog",
    "/careers",
    "/docs/checkpoints",
    "/status",
    "/contact",
    "/docs/http",
    "/legal",
    "/press",
];
const COUNTRIES: [&str; 16] = [
    "US", "IN", "DE", "BR", "GB", "JP", "FR", "NG", "ID", "MX", "CA", "PL", "KR", "ES", "NL", "CH",
];
const VISITORS: u64 = 20_000;
/// How often a page gets a burst, and how long the burst is, in visits.
const BURST_EVERY: u64 = 6_000;
const BURST_LEN: u64 = 1_200;
/// One visit in so many is told late, by at most so much.
const LATE_ONE_IN: u64 = 25;
const MAX_BEHIND_MS: u64 = 3_000;

/// A visit without its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The visitor's number; some come often.
    pub visitor: u64,
    /// The page seen.
    pub page: &'static str,
    /// The visitor's country, always the same for one visitor.
    pub country: &'static str,
    /// How long before it is told the visit happened, in ms; 0 for most.
    pub behind_ms: u64,
}

/// The `n`th visit of a seed. Pages and countries follow Zipf's law, and now and then one page
/// gets half of the visits for a while.
pub fn visit(seed: u64, n: u64) -> Visit {
    let mut dice = Dice(mix(seed ^ mix(n)));
    // The square of a uniform number prefers small ones: few visitors come often.
    let often = dice.below(VISITORS);
    let visitor = often * dice.below(VISITORS) / VISITORS;
    let burst = n / BURST_EVERY;
    let bursting = n % BURST_EVERY < BURST_LEN && dice.below(2) == 0;
    let page = if bursting {
        let page = Dice(mix(seed.wrapping_add(burst))).below(PAGES.len() as u64);
        PAGES[usize::try_from(page).unwrap_or_default()]
    } else {
        PAGES[dice.zipf(PAGES.len())]
    };
    let country = COUNTRIES[Dice(mix(seed ^ visitor)).zipf(COUNTRIES.len())];
    let late = dice.below(LATE_ONE_IN) == 0;
    let behind_ms = if late {
        1 + dice.below(MAX_BEHIND_MS)
    } else {
        0
    };
    Visit {
        visitor,
        page,
        country,
        behind_ms,
    }
}

impl Visit {
    /// The JSON line of the visit, told at `now`.
    pub fn line(&self, now: Timestamp) -> Vec<u8> {
        let at = now.0 - self.behind_ms.cast_signed();
        let mut line = String::with_capacity(96);
        let Visit {
            visitor,
            page,
            country,
            ..
        } = self;
        write!(
            line,
            r#"{{"visitor":"v{visitor}","page":"{page}","country":"{country}","at":{at}}}"#
        )
        .expect("writing to a string cannot fail");
        line.into_bytes()
    }
}

/// Scrambles a number (the finalizer of `SplitMix64`).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

/// A run of numbers that look random.
struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % bound
    }

    /// An index below `len`, the `i`th with weight 1 / (i + 1).
    fn zipf(&mut self, len: usize) -> usize {
        const SCALE: u64 = 1 << 20;
        let weight = |i: usize| SCALE / (i as u64 + 1);
        let mut left = self.below((0..len).map(weight).sum());
        for i in 0..len {
            match left.checked_sub(weight(i)) {
                Some(rest) => left = rest,
                None => return i,
            }
        }
        len - 1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_visits() {
        assert!((0..1000).all(|n| visit(7, n) == visit(7, n)));
        assert!((0..1000).any(|n| visit(7, n) != visit(8, n)));
    }

    #[test]
    fn the_first_pages_and_countries_lead_and_few_visits_are_told_late() {
        let (mut pages, mut countries) = (BTreeMap::new(), BTreeMap::new());
        let mut late = 0;
        for n in 0..60_000 {
            let visit = visit(1, n);
            *pages.entry(visit.page).or_insert(0) += 1;
            *countries.entry(visit.country).or_insert(0) += 1;
            late += u64::from(visit.behind_ms > 0);
            assert!(visit.behind_ms <= MAX_BEHIND_MS);
        }
        assert_eq!(
            (pages.len(), countries.len()),
            (PAGES.len(), COUNTRIES.len())
        );
        assert!(pages["/"] > 2 * pages["/docs/start"]);
        assert!(countries["US"] > 2 * countries["BR"]);
        assert!((1_500..3_500).contains(&late), "{late}");
    }

    #[test]
    fn a_line_is_the_documented_record() {
        let visit = Visit {
            visitor: 4,
            page: "/",
            country: "DE",
            behind_ms: 500,
        };
        let line = r#"{"visitor":"v4","page":"/","country":"DE","at":9500}"#;
        assert_eq!(visit.line(Timestamp(10_000)), line.as_bytes());
    }
}
