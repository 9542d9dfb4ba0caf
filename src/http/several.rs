//! Reads of more than one answer: several queries at one epoch, and two epochs of one query.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use warp::reply::Response;

use super::accept::{Accepts, Format};
use super::answer::{Heading, number, send, text, unwritten};
use super::moment::{Moment, Subject, moment, scope};
use super::params::{DiffParams, READ_SEVERAL, ReadParams};
use super::problem::{Kind, Problem};
use super::pull::{self, TRIES, next, page, query};
use super::render::{Besides, Mark, Part, Rendering, Shown};
use super::state::State;
use super::tag::{Asked, Tags, not_modified};
use super::token::DiffCursor;
use crate::time::Epoch;
use crate::view::{Change, KeyRange, Labels, Page, ReadError, View};

/// The most queries that one snapshot reads.
const MAX_QUERIES: usize = 64;

/// `GET /v1/snapshot?queries=a,b`: several queries at one epoch.
pub(super) async fn snapshot(
    state: Arc<State>,
    raw: String,
    accepts: Accepts,
) -> Result<Response, Problem> {
    let params = ReadParams::parse(&raw, &[READ_SEVERAL], state.service.options.max_wait)?;
    let names = params.queries.clone().unwrap_or_default();
    let views = asked_for(&state, &names)?;
    if accepts.format != Some(Format::Json) {
        return Err(Problem::new(
            Kind::NotAcceptable,
            "header Accept asks for another format: a snapshot is served as application/json",
        ));
    }
    let mut streams: Vec<&String> = views.iter().flat_map(|view| &view.spec().streams).collect();
    streams.sort_unstable();
    streams.dedup();
    let subject = Subject {
        kind: "snapshot of",
        name: &names,
        streams,
        scope: scope(&[Some("snapshot"), Some(&names)]),
    };
    let mut tries = 1..TRIES;
    loop {
        let moment = moment(&state, &subject, &params).await?;
        let epoch = moment.labels.epoch;
        let changed_at = views.iter().map(|view| view.changed_at(epoch)).max();
        let changed_at = changed_at.unwrap_or(epoch);
        let tags = Tags::of(
            &subject,
            params.asked(),
            &accepts,
            &moment.labels,
            changed_at,
        );
        if moment.age_ms.is_none()
            && let Some(tag) = tags.known(&accepts)
        {
            return Ok(not_modified(tag));
        }
        match pages(&views, epoch, params.limit).await {
            Err(ReadError::Gone { .. }) if !params.is_pinned() && tries.next().is_some() => {}
            pages => return together(&views, pages?, &moment, &tags, &accepts).await,
        }
    }
}

/// The views of queries named with commas between.
fn asked_for<'a>(state: &'a State, names: &str) -> Result<Vec<&'a Arc<View>>, Problem> {
    let mut views: Vec<&Arc<View>> = Vec::new();
    for name in names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let view = query(state, name)?;
        if !views.iter().any(|other| Arc::ptr_eq(other, view)) {
            views.push(view);
        }
    }
    if views.is_empty() || views.len() > MAX_QUERIES {
        return Err(Problem::parameter(format!(
            "parameter 'queries' names {} queries: name 1 to {MAX_QUERIES}, as in queries=a,b",
            views.len()
        )));
    }
    Ok(views)
}

async fn pages(views: &[&Arc<View>], at: Epoch, limit: usize) -> Result<Vec<Page>, ReadError> {
    let mut pages = Vec::with_capacity(views.len());
    for view in views {
        pages.push(page(view, at, (KeyRange::all(), None, limit, None)).await?);
    }
    Ok(pages)
}

/// The pulls' answers under one epoch.
async fn together(
    views: &[&Arc<View>],
    pages: Vec<Page>,
    Moment { labels, age_ms }: &Moment,
    tags: &Tags,
    accepts: &Accepts,
) -> Result<Response, Problem> {
    let has_next = pages.iter().any(|page| page.next.is_some());
    let mut parts: Vec<Part> = Vec::with_capacity(pages.len());
    let mut head = b"{\"as_of\":".to_vec();
    number(&mut head, labels.epoch);
    head.extend_from_slice(b",\"queries\":{");
    for (view, page) in views.iter().zip(pages) {
        let spec = view.spec();
        let next = next(&page, labels.epoch, pull::scope_of(&spec.name));
        let heading = Heading {
            kind: "query",
            name: &spec.name,
            from: None,
            streams: &spec.streams,
            labels: Arc::clone(labels),
            age_ms: *age_ms,
        };
        let rows = heading.shown(page);
        let mut part = heading.part("rows", rows, next.as_deref());
        text(&mut head, &spec.name);
        head.push(b':');
        head.append(&mut part.head);
        part.head = std::mem::replace(&mut head, b",".to_vec());
        parts.push(part);
    }
    if let Some(last) = parts.last_mut() {
        last.tail.extend_from_slice(b"}}");
    }
    let mut response = send(Rendering::json(parts), accepts).await?;
    let none = Heading {
        kind: "snapshot",
        name: "",
        from: None,
        streams: &[],
        labels: Arc::clone(labels),
        age_ms: *age_ms,
    };
    none.label_epoch(&mut response);
    if age_ms.is_none() {
        tags.mark(response.headers_mut(), has_next);
    }
    Ok(response)
}

/// `GET /v1/queries/{name}/diff?from=E1&to=E2`: what changed between two epochs.
pub(super) async fn diff(
    state: Arc<State>,
    name: String,
    raw: String,
    accepts: Accepts,
) -> Result<Response, Problem> {
    let view = query(&state, &name)?;
    let spec = view.spec();
    let params = DiffParams::parse(&raw)?;
    let format = accepts.format.ok_or_else(Problem::not_acceptable)?;
    let range = match &params.prefix {
        Some(prefix) => KeyRange::prefix(spec, prefix)?,
        None => KeyRange::all(),
    };
    let scope = scope(&[Some("diff"), Some(&spec.name), params.prefix.as_deref()]);
    let (from, to, done) = ends(&state, &params, scope)?;
    let subject = Subject {
        kind: "query",
        name: &spec.name,
        streams: spec.streams.iter().collect(),
        scope,
    };
    let heading = Heading {
        kind: "query",
        name: &spec.name,
        from: Some(from.epoch),
        streams: &spec.streams,
        labels: Arc::clone(&to),
        age_ms: None,
    };
    let asked = Asked {
        limit: params.limit,
        position: &done.to_le_bytes(),
    };
    let tags = Tags::of(&subject, asked, &accepts, &to, from.epoch);
    if let Some(tag) = tags.known_at_its_epoch(&accepts) {
        let mut response = not_modified(tag);
        heading.label(&mut response);
        return Ok(response);
    }
    let (rows, is_over) = changes(&state, view, &heading, range, done, params.limit).await?;
    let next = (!is_over).then(|| {
        let cursor = DiffCursor {
            from: from.epoch,
            to: to.epoch,
            scope,
            done: done + params.limit as u64,
        };
        cursor.encode()
    });
    let next = next.as_deref();
    let mut response = if format == Format::Json {
        send(
            Rendering::json([heading.part("changes", rows, next)]),
            &accepts,
        )
        .await?
    } else {
        let rendering = Rendering::rows(format, spec, Besides::Op, rows).map_err(unwritten)?;
        let mut response = send(rendering, &accepts).await?;
        heading.label_fully(&mut response, next);
        response
    };
    heading.label(&mut response);
    tags.mark(response.headers_mut(), true);
    Ok(response)
}

/// The two epochs of a diff, and how many changes earlier pages had.
fn ends(
    state: &State,
    params: &DiffParams,
    scope: u32,
) -> Result<(Arc<Labels>, Arc<Labels>, u64), Problem> {
    let views = &state.service.views;
    if let Some(cursor) = &params.cursor {
        if cursor.scope != scope {
            return Err(Problem::parameter(
                "parameter 'cursor' was given out for another address or range",
            ));
        }
        let (from, to) = (views.labels_at(cursor.from)?, views.labels_at(cursor.to)?);
        return Ok((from, to, cursor.done));
    }
    let newest = state.upper()?;
    let from = params.from.ok_or_else(|| {
        Problem::parameter("parameter 'from' is missing: name the epoch to compare with")
    })?;
    let to = params.to.map_or(Ok(newest), |to| views.labels_at(to))?;
    let from = views.labels_at(from)?;
    if from.epoch > to.epoch {
        return Err(Problem::parameter(format!(
            "parameter 'from' is epoch {}, after 'to', which is {}",
            from.epoch, to.epoch
        )));
    }
    Ok((from, to, 0))
}

/// A page of the net changes, removals before additions, and whether it is the last.
async fn changes(
    state: &State,
    view: &Arc<View>,
    heading: &Heading<'_>,
    range: KeyRange,
    done: u64,
    limit: usize,
) -> Result<(Vec<Shown>, bool), Problem> {
    // All of the history may have to be looked at, whatever the page.
    let _turn = state.large_reads.acquire().await;
    let (views, view) = (Arc::clone(&state.service.views), Arc::clone(view));
    let (from, to) = (heading.from.unwrap_or(0), heading.labels.epoch);
    let read = move || -> Result<_, ReadError> {
        let changes = view.changes(&views.span(view.spec(), from, to)?)?;
        let mut changes = changes
            .into_iter()
            .filter(|change| range.holds(&change.row))
            .skip(usize::try_from(done).unwrap_or(usize::MAX));
        let shown = |change: Change| Shown {
            times: change.diff.unsigned_abs(),
            mark: match (change.diff < 0, change.is_expiry) {
                (false, _) => Mark::Added,
                (true, false) => Mark::Removed,
                (true, true) => Mark::Expired,
            },
            row: change.row,
        };
        let rows: Vec<Shown> = changes.by_ref().take(limit).map(shown).collect();
        Ok((rows, changes.next().is_none()))
    };
    let read = spawn_blocking(read).await;
    Ok(read.map_err(|_| Problem::stopping())??)
}
