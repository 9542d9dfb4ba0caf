//! Reads: a query's rows, one key of it, and what was late or rejected.

use std::sync::Arc;

use warp::reply::Response;

use super::answer::Heading;
use super::params::{self, READ_KEY, READ_RANGE, ReadParams};
use super::problem::{Kind, Problem};
use super::state::State;
use super::token::{Cursor, Token};
use crate::time::{Timestamp, millis_of};
use crate::view::{KeyRange, Labels, QuerySpec, View};

/// What is read: a view, and what its answer says it is.
struct Target<'a> {
    kind: &'a str,
    name: &'a str,
    streams: &'a [String],
    view: &'a View,
    /// Everything that a cursor must have been given out for, besides the epoch.
    scope: u32,
}

/// `GET /v1/queries/{name}`.
pub(super) async fn rows(
    state: Arc<State>,
    name: String,
    raw: String,
) -> Result<Response, Problem> {
    let view = query(&state, &name)?;
    let params = ReadParams::parse(&raw, READ_RANGE, state.service.options.max_wait)?;
    let spec = view.spec();
    let mut range = KeyRange::between(spec, params.from.as_deref(), params.to.as_deref())?;
    if let Some(prefix) = &params.prefix {
        range = range.and(KeyRange::prefix(spec, prefix)?);
    }
    let scope = scope(&[
        Some("rows"),
        Some(&spec.name),
        params.prefix.as_deref(),
        params.from.as_deref(),
        params.to.as_deref(),
    ]);
    let target = of_query(view, spec, scope);
    read(&state, &target, &params, &range)
        .await
        .map(|(response, _)| response)
}

/// `GET /v1/queries/{name}/key/{key}`: every row of the key.
pub(super) async fn key(
    state: Arc<State>,
    name: String,
    key: String,
    raw: String,
) -> Result<Response, Problem> {
    let view = query(&state, &name)?;
    let params = ReadParams::parse(&raw, READ_KEY, state.service.options.max_wait)?;
    let key = params::decode(&key, false)
        .ok_or_else(|| Problem::parameter(format!("key '{key}' is not percent-encoded UTF-8")))?;
    let spec = view.spec();
    let range = KeyRange::key(spec, &key)?;
    let target = of_query(
        view,
        spec,
        scope(&[Some("key"), Some(&spec.name), Some(&key)]),
    );
    match read(&state, &target, &params, &range).await? {
        (response, found) if found || params.cursor.is_some() => Ok(response),
        _ => Err(Problem::new(
            Kind::NotFound,
            format!("query '{}' has no row with the key '{key}'", spec.name),
        )),
    }
}

/// `GET /v1/queries/{name}/late`: the records that came too late.
pub(super) async fn late(
    state: Arc<State>,
    name: String,
    raw: String,
) -> Result<Response, Problem> {
    let spec = query(&state, &name)?.spec();
    let view = state
        .service
        .views
        .late(&spec.name)
        .ok_or_else(|| unknown_query(&name))?;
    let params = ReadParams::parse(&raw, &[], state.service.options.max_wait)?;
    let target = of_query(view, spec, scope(&[Some("late"), Some(&spec.name)]));
    read(&state, &target, &params, &KeyRange::all())
        .await
        .map(|(response, _)| response)
}

/// `GET /v1/streams/{name}/rejected`: the records that could not be read.
pub(super) async fn rejected(
    state: Arc<State>,
    name: String,
    raw: String,
) -> Result<Response, Problem> {
    let name = params::decode(&name, false).unwrap_or(name);
    let view = state.service.views.rejected(&name).ok_or_else(|| {
        Problem::new(
            Kind::NotFound,
            format!("stream '{name}' does not exist: see /v1/streams"),
        )
    })?;
    let params = ReadParams::parse(&raw, &[], state.service.options.max_wait)?;
    let scope = scope(&[Some("rejected"), Some(&name)]);
    let streams = std::slice::from_ref(&name);
    let target = Target {
        kind: "stream",
        name: &name,
        streams,
        view,
        scope,
    };
    read(&state, &target, &params, &KeyRange::all())
        .await
        .map(|(response, _)| response)
}

fn of_query<'a>(view: &'a View, spec: &'a QuerySpec, scope: u32) -> Target<'a> {
    Target {
        kind: "query",
        name: &spec.name,
        streams: &spec.streams,
        view,
        scope,
    }
}

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

/// Reads a page and says whether it has rows.
async fn read(
    state: &State,
    target: &Target<'_>,
    params: &ReadParams,
    range: &KeyRange,
) -> Result<(Response, bool), Problem> {
    if params.only_final && !target.view.spec().has_final {
        return Err(Problem::no_final(target.name));
    }
    let scope = target.scope ^ u32::from(params.only_final);
    let labels = epoch(state, target, params, scope).await?;
    let complete_through = labels.complete_through(target.streams.iter().map(String::as_str));
    // Before the first event nothing is final: no row is final at the first instant there is.
    let final_at = params
        .only_final
        .then(|| complete_through.unwrap_or(Timestamp(i64::MIN)));
    let position = params.cursor.as_ref().map(|cursor| &cursor.position);
    let page = target
        .view
        .read(labels.epoch, range, position, params.limit, final_at)?;
    let next = page.next.as_ref().map(|position| {
        Cursor {
            epoch: labels.epoch,
            scope,
            position: position.clone(),
        }
        .encode()
    });
    let heading = Heading {
        kind: target.kind,
        name: target.name,
        streams: target.streams,
        labels: &labels,
        complete_through,
        stale: state.is_stale(),
    };
    Ok((
        heading.respond(&page, next.as_deref()),
        !page.rows.is_empty(),
    ))
}

/// The epoch to read. A cursor's wins: what its first page waited for, it includes.
async fn epoch(
    state: &State,
    target: &Target<'_>,
    params: &ReadParams,
    scope: u32,
) -> Result<Arc<Labels>, Problem> {
    let newest = state.upper()?;
    if let Some(cursor) = &params.cursor {
        if cursor.scope != scope {
            return Err(Problem::parameter(
                "parameter 'cursor' was given out for another address or range",
            ));
        }
        let gone = || {
            let detail = format!(
                "the cursor's epoch {} is gone: read from the start",
                cursor.epoch
            );
            Problem::new(Kind::Gone, detail)
        };
        let labels = state
            .service
            .views
            .labels_at(cursor.epoch)
            .map_err(|_| gone())?;
        return if labels.epoch == cursor.epoch {
            Ok(labels)
        } else {
            Err(gone())
        };
    }
    if let Some(at) = params.at {
        return Ok(state.service.views.labels_at(at)?);
    }
    if let Some(token) = &params.after {
        check(state, target, token)?;
    }
    if params.after.is_none() && params.max_staleness.is_none() {
        return Ok(newest);
    }
    let oldest = params
        .max_staleness
        .map(|age| u64::try_from(state.now().0.saturating_sub(millis_of(age))).unwrap_or_default());
    let is_enough = |labels: &Labels| {
        params
            .after
            .as_ref()
            .is_none_or(|token| position(labels, &token.stream) >= token.position)
            && oldest.is_none_or(|oldest| labels.epoch >= oldest)
    };
    let what = || waited(target, params);
    state.wait_for(params.timeout, what, is_enough).await
}

/// Refuses a token that no wait could satisfy.
fn check(state: &State, target: &Target<'_>, token: &Token) -> Result<(), Problem> {
    let Token { stream, position } = token;
    if !target.streams.contains(stream) {
        return Err(Problem::parameter(format!(
            "parameter 'after' is a token of stream '{stream}', which {} '{}' does not read",
            target.kind, target.name
        )));
    }
    let end = state.service.ingest.end(stream).unwrap_or(0);
    if *position > end {
        return Err(Problem::new(
            Kind::Conflict,
            format!(
                "parameter 'after' is a token for position {position} of stream '{stream}', whose \
                 log ends at {end}: it was given out over another data directory"
            ),
        ));
    }
    Ok(())
}

/// The next position of a posted stream that is not yet included.
fn position(labels: &Labels, stream: &str) -> u64 {
    let label = labels
        .streams
        .get(stream)
        .and_then(|label| label.partitions.get(&0));
    label.map_or(0, |partition| partition.position)
}

fn waited(target: &Target<'_>, params: &ReadParams) -> String {
    let what = match &params.after {
        Some(token) => format!("position {} of stream '{}'", token.position, token.stream),
        None => "an epoch as new as 'max_staleness' asks for".to_owned(),
    };
    format!(
        "{} '{}' did not reach {what} within {} ms: read again, or with a longer 'timeout'",
        target.kind,
        target.name,
        params.timeout.as_millis()
    )
}

/// A checksum of what a read is of. Absent parts differ from empty ones.
pub(super) fn scope(parts: &[Option<&str>]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        match part {
            Some(text) => {
                hasher.update(&(text.len() as u64 + 1).to_le_bytes());
                hasher.update(text.as_bytes());
            }
            None => hasher.update(&0_u64.to_le_bytes()),
        }
    }
    hasher.finalize()
}
