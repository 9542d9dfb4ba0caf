//! The queries this service runs; each is served at `/v1/queries/<module name>`.

mod bank;
mod events;
pub mod nexmark;

mod busy_pages;
mod clicks_per_country;
mod clicks_per_user;
mod clicks_per_user_tumbling;
mod page_views;
mod top_pages;
mod unique_visitors;

/// Every query, in the order the index page lists them.
pub fn all() -> Vec<waterclock::Query> {
    let mut all = waterclock::queries![
        page_views,
        unique_visitors,
        top_pages,
        busy_pages,
        clicks_per_user,
        clicks_per_user_tumbling,
        clicks_per_country,
    ];
    all.extend(bank::all());
    all.extend(nexmark::all());
    all
}
