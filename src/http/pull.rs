//! Reads: a query's rows, one key of it, and what was late or rejected.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use warp::reply::Response;

use super::accept::{Accepts, Format};
use super::answer::{Heading, send, unwritten};
use super::moment::{Moment, Subject, moment, scope};
use super::params::{self, READ, READ_KEY, READ_RANGE, ReadParams};
use super::problem::{Kind, Problem};
use super::render::{Besides, Rendering};
use super::state::State;
use super::tag::{Tags, not_modified};
use super::token::Cursor;
use crate::time::{Epoch, Timestamp};
use crate::view::{KeyRange, Labels, Page, QuerySpec, ReadError, RowPosition, View};

/// A page of more rows is read off the threads that serve other requests.
const LARGE_PAGE: usize = 1000;

/// How often a read is tried whose epoch is forgotten while it is read.
pub(super) const TRIES: usize = 3;

/// What is read: a view, and what its answer says it is.
pub(super) struct Target<'a> {
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) streams: &'a [String],
    pub(super) view: &'a Arc<View>,
    /// Everything that a cursor must have been given out for, besides the epoch.
    pub(super) scope: u32,
}

/// `GET /v1/queries/{name}`.
pub(super) async fn rows(
    state: Arc<State>,
    name: String,
    raw: String,
    accepts: Accepts,
) -> Result<Response, Problem> {
    let view = query(&state, &name)?;
    let params = ReadParams::parse(&raw, &[READ, READ_RANGE], state.service.options.max_wait)?;
    let spec = view.spec();
    let mut range = KeyRange::between(spec, params.from.as_deref(), params.to.as_deref())?;
    if let Some(prefix) = &params.prefix {
        range = range.and(KeyRange::prefix(spec, prefix)?);
    }
    let scope = scope_of_range(&spec.name, &params);
    let target = of_query(view, spec, scope);
    read(&state, &target, &params, range, &accepts).await
}

/// What cursors of a range of rows are given out for.
fn scope_of_range(name: &str, params: &ReadParams) -> u32 {
    scope(&[
        Some("rows"),
        Some(name),
        params.prefix.as_deref(),
        params.from.as_deref(),
        params.to.as_deref(),
    ])
}

/// What cursors of all rows are given out for.
pub(super) fn scope_of(name: &str) -> u32 {
    scope(&[Some("rows"), Some(name), None, None, None])
}

/// `GET /v1/queries/{name}/key/{key}`: every row of the key.
pub(super) async fn key(
    state: Arc<State>,
    name: String,
    key: String,
    raw: String,
    accepts: Accepts,
) -> Result<Response, Problem> {
    let view = query(&state, &name)?;
    let params = ReadParams::parse(&raw, &[READ, READ_KEY], state.service.options.max_wait)?;
    let key = params::decode(&key, false)
        .ok_or_else(|| Problem::parameter(format!("key '{key}' is not percent-encoded UTF-8")))?;
    let spec = view.spec();
    let range = KeyRange::key(spec, &key)?;
    let target = of_query(
        view,
        spec,
        scope(&[Some("key"), Some(&spec.name), Some(&key)]),
    );
    let is_first = params.cursor.is_none();
    match get(&state, &target, &params, range, &accepts).await? {
        Got::Rows(found) if found.page.rows.is_empty() && is_first => Err(Problem::new(
            Kind::NotFound,
            format!("query '{}' has no row with the key '{key}'", spec.name),
        )),
        got => respond(&target, got, &accepts).await,
    }
}

/// `GET /v1/queries/{name}/late`: the records that came too late.
pub(super) async fn late(
    state: Arc<State>,
    name: String,
    raw: String,
    accepts: Accepts,
) -> Result<Response, Problem> {
    let spec = query(&state, &name)?.spec();
    let view = state
        .service
        .views
        .late(&spec.name)
        .ok_or_else(|| unknown_query(&name))?;
    let params = ReadParams::parse(&raw, &[READ], state.service.options.max_wait)?;
    let target = of_query(view, spec, scope(&[Some("late"), Some(&spec.name)]));
    read(&state, &target, &params, KeyRange::all(), &accepts).await
}

/// `GET /v1/streams/{name}/rejected`: the records that could not be read.
pub(super) async fn rejected(
    state: Arc<State>,
    name: String,
    raw: String,
    accepts: Accepts,
) -> Result<Response, Problem> {
    let name = params::decode(&name, false).unwrap_or(name);
    let view = state.service.views.rejected(&name).ok_or_else(|| {
        Problem::new(
            Kind::NotFound,
            format!("stream '{name}' does not exist: see /v1/streams"),
        )
    })?;
    let params = ReadParams::parse(&raw, &[READ], state.service.options.max_wait)?;
    let scope = scope(&[Some("rejected"), Some(&name)]);
    let streams = std::slice::from_ref(&name);
    let target = Target {
        kind: "stream",
        name: &name,
        streams,
        view,
        scope,
    };
    read(&state, &target, &params, KeyRange::all(), &accepts).await
}

fn of_query<'a>(view: &'a Arc<View>, spec: &'a QuerySpec, scope: u32) -> Target<'a> {
    Target {
        kind: "query",
        name: &spec.name,
        streams: &spec.streams,
        view,
        scope,
    }
}

/// The view of a query that has not failed.
pub(super) fn query<'a>(state: &'a State, name: &str) -> Result<&'a Arc<View>, Problem> {
    let decoded = params::decode(name, false);
    let name = decoded.as_deref().unwrap_or(name);
    let view = state
        .service
        .views
        .query(name)
        .ok_or_else(|| unknown_query(name))?;
    match view.failure() {
        None => Ok(view),
        Some(reason) => Err(Problem::new(
            Kind::QueryFailed,
            format!("query '{name}' has failed: {reason}"),
        )),
    }
}

fn unknown_query(name: &str) -> Problem {
    Problem::new(
        Kind::NotFound,
        format!("query '{name}' does not exist: see /v1/queries"),
    )
}

/// What a read found.
enum Got {
    /// The client has it already.
    Known(Response),
    Rows(Found),
}

struct Found {
    page: Page,
    next: Option<String>,
    labels: Arc<Labels>,
    age_ms: Option<u64>,
    tags: Tags,
}

async fn read(
    state: &State,
    target: &Target<'_>,
    params: &ReadParams,
    range: KeyRange,
    accepts: &Accepts,
) -> Result<Response, Problem> {
    let got = get(state, target, params, range, accepts).await?;
    respond(target, got, accepts).await
}

/// Reads a page, unless the client has it.
async fn get(
    state: &State,
    target: &Target<'_>,
    params: &ReadParams,
    range: KeyRange,
    accepts: &Accepts,
) -> Result<Got, Problem> {
    if params.only_final && !target.view.spec().has_final {
        return Err(Problem::no_final(target.name));
    }
    if accepts.format.is_none() {
        return Err(Problem::not_acceptable());
    }
    let subject = Subject {
        kind: target.kind,
        name: target.name,
        streams: target.streams.iter().collect(),
        scope: target.scope ^ u32::from(params.only_final),
    };
    let mut tries = 1..TRIES;
    loop {
        let Moment { labels, age_ms } = moment(state, &subject, params).await?;
        let changed_at = target.view.changed_at(labels.epoch);
        let tags = Tags::of(&subject, params.asked(), accepts, &labels, changed_at);
        if age_ms.is_none()
            && let Some(tag) = tags.known(accepts)
        {
            let mut response = not_modified(tag);
            target.heading(&labels, None).label(&mut response);
            return Ok(Got::Known(response));
        }
        let complete_through = target.heading(&labels, None).complete_through();
        // Before the first event nothing is final: no row is final at the first instant there is.
        let final_at = params
            .only_final
            .then(|| complete_through.unwrap_or(Timestamp(i64::MIN)));
        let position = params.cursor.as_ref().map(|cursor| cursor.position.clone());
        let wanted = (range.clone(), position, params.limit, final_at);
        match page(target.view, labels.epoch, wanted).await {
            // The newest epoch was forgotten meanwhile: there is a newer one.
            Err(ReadError::Gone { .. }) if !params.is_pinned() && tries.next().is_some() => {}
            page => {
                let page = page?;
                let next = next(&page, labels.epoch, subject.scope);
                return Ok(Got::Rows(Found {
                    page,
                    next,
                    labels,
                    age_ms,
                    tags,
                }));
            }
        }
    }
}

async fn respond(target: &Target<'_>, got: Got, accepts: &Accepts) -> Result<Response, Problem> {
    let found = match got {
        Got::Known(response) => return Ok(response),
        Got::Rows(found) => found,
    };
    let format = accepts.format.unwrap_or_default();
    let heading = target.heading(&found.labels, found.age_ms);
    let next = found.next.as_deref();
    let rows = heading.shown(found.page);
    let mut response = if format == Format::Json {
        send(Rendering::json([heading.part("rows", rows, next)]), accepts).await?
    } else {
        let spec = target.view.spec();
        let besides = if spec.has_final {
            Besides::Final
        } else {
            Besides::Nothing
        };
        let rendering = Rendering::rows(format, spec, besides, rows).map_err(unwritten)?;
        let mut response = send(rendering, accepts).await?;
        heading.label_fully(&mut response, next);
        response
    };
    heading.label(&mut response);
    if found.age_ms.is_none() {
        found.tags.mark(response.headers_mut(), next.is_some());
    }
    Ok(response)
}

/// What part of a view is read: the range, where in it, how many rows, and final at when.
type Wanted = (KeyRange, Option<RowPosition>, usize, Option<Timestamp>);

/// Reads a page; a large one off the threads that serve other requests.
pub(super) async fn page(view: &Arc<View>, at: Epoch, wanted: Wanted) -> Result<Page, ReadError> {
    let view = Arc::clone(view);
    let (range, position, limit, final_at) = wanted;
    let read = move || view.read(at, &range, position.as_ref(), limit, final_at);
    if limit <= LARGE_PAGE {
        return read();
    }
    spawn_blocking(read)
        .await
        .unwrap_or(Err(ReadError::NotReady))
}

/// The cursor of the page after this one.
pub(super) fn next(page: &Page, epoch: Epoch, scope: u32) -> Option<String> {
    let position = page.next.clone()?;
    let cursor = Cursor {
        epoch,
        scope,
        position,
    };
    Some(cursor.encode())
}

impl<'a> Target<'a> {
    fn heading(&self, labels: &Arc<Labels>, age_ms: Option<u64>) -> Heading<'a> {
        Heading {
            kind: self.kind,
            name: self.name,
            from: None,
            streams: self.streams,
            labels: Arc::clone(labels),
            age_ms,
        }
    }
}
