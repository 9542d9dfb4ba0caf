//! The epoch that a read is of: the newest, an earlier one, or one that is waited for.

use std::sync::Arc;

use super::params::ReadParams;
use super::problem::{Kind, Problem};
use super::state::State;
use super::token::{Cursor, Token};
use crate::time::{Epoch, Timestamp, millis_of};
use crate::view::{Labels, ReadError};

/// What is read, as far as its epoch depends on it.
pub(super) struct Subject<'a> {
    /// What it is, and its name.
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    /// The streams it reads.
    pub(super) streams: Vec<&'a String>,
    /// What a cursor must have been given out for.
    pub(super) scope: u32,
}

/// The labels of an epoch, and how an answer of it compares with its input.
pub(super) struct Moment {
    pub(super) labels: Arc<Labels>,
    /// How many milliseconds the answer lags behind, where it lags too far. An answer of an epoch
    /// that the reader named does not lag, once the service has caught up.
    pub(super) age_ms: Option<u64>,
}

/// Finds the epoch, waiting for it where that is asked.
pub(super) async fn moment(
    state: &State,
    subject: &Subject<'_>,
    params: &ReadParams,
) -> Result<Moment, Problem> {
    let newest = state.newest()?;
    let is_catching_up = !state.service.views.is_ready();
    if is_catching_up {
        allowed(state, subject, params, &newest)?;
    }
    if let Some(cursor) = &params.cursor {
        let labels = of_cursor(state, subject, cursor)?;
        let age_ms = is_catching_up.then(|| age_ms(state, subject, &labels));
        return Ok(Moment { labels, age_ms });
    }
    if let Some(at) = params.at {
        return Ok(Moment {
            labels: state.service.views.labels_at(at)?,
            age_ms: None,
        });
    }
    if let Some(token) = &params.after {
        check(state, subject, token)?;
    }
    let labels = if params.after.is_none() && params.max_staleness.is_none() {
        newest
    } else {
        wait(state, subject, params).await?
    };
    let is_stale = state.is_stale(state.age(&labels, &subject.streams));
    let age_ms = is_stale.then(|| age_ms(state, subject, &labels));
    Ok(Moment { labels, age_ms })
}

/// How many milliseconds an answer of an epoch lags behind its input.
fn age_ms(state: &State, subject: &Subject<'_>, labels: &Labels) -> u64 {
    let age = state.age(labels, &subject.streams);
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

/// Refuses a read while the service catches up, unless the reader takes an answer as old as the
/// newest one there is, and how old that is can be said. Nobody who asks for the present, or for an
/// epoch by its number, does.
fn allowed(
    state: &State,
    subject: &Subject<'_>,
    params: &ReadParams,
    newest: &Labels,
) -> Result<(), Problem> {
    if params.at.is_some() || !state.fresh.is_before(newest.epoch) {
        return Err(ReadError::NotReady.into());
    }
    let age = age_ms(state, subject, newest);
    let most = params.max_staleness.map_or(0, millis_of);
    if most > 0 && u64::try_from(most).is_ok_and(|most| age <= most) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::NotReady,
        format!(
            "the service is not ready: it is still catching up, and {} '{}' is {age} ms behind its \
             input; read again in a moment, or allow such an answer with max_staleness={}s",
            subject.kind,
            subject.name,
            age / 1000 + 1
        ),
    ))
}

/// The epoch of a cursor, which wins over everything: what its first page waited for, it includes.
fn of_cursor(
    state: &State,
    subject: &Subject<'_>,
    cursor: &Cursor,
) -> Result<Arc<Labels>, Problem> {
    if cursor.scope != subject.scope {
        return Err(Problem::parameter(
            "parameter 'cursor' was given out for another address or range",
        ));
    }
    let gone = |epoch: Epoch| {
        let detail = format!("the cursor's epoch {epoch} is gone: read from the start");
        Problem::new(Kind::Gone, detail)
    };
    let labels = state.service.views.labels_of(cursor.epoch);
    labels.ok_or_else(|| gone(cursor.epoch))
}

/// Waits for an epoch that includes the token and is as fresh as asked. While the service itself
/// says that it is stale nobody waits for freshness: it may take long.
async fn wait(
    state: &State,
    subject: &Subject<'_>,
    params: &ReadParams,
) -> Result<Arc<Labels>, Problem> {
    let is_included = |labels: &Labels| {
        let token = params.after.as_ref();
        token.is_none_or(|token| position(labels, &token.stream) >= token.position)
    };
    // Counted from when the reader asked, so that 0 asks for all that was acknowledged before.
    let most = params.max_staleness.map(millis_of);
    let oldest = most.map(|most| Timestamp(state.now().0.saturating_sub(most)));
    let is_fresh = |labels: &Labels| {
        oldest.is_none_or(|oldest| state.until(labels, &subject.streams) >= oldest)
    };
    let what = || waited(subject, params);
    let newest = state.newest()?;
    if !is_fresh(&newest) && state.is_stale(state.age(&newest, &subject.streams)) {
        let age = age_ms(state, subject, &newest);
        return Err(Problem::new(
            Kind::WaitedTooLong,
            format!(
                "{} '{}' is {age} ms behind its input, which is more than 'max_staleness': read \
                 again in a moment, or accept an older answer",
                subject.kind, subject.name
            ),
        ));
    }
    let is_enough = |labels: &Labels| is_included(labels) && is_fresh(labels);
    state.wait_for(params.timeout, what, is_enough).await
}

/// Refuses a token that no wait could satisfy.
fn check(state: &State, subject: &Subject<'_>, token: &Token) -> Result<(), Problem> {
    let Token { stream, position } = token;
    if !subject.streams.contains(&stream) {
        return Err(Problem::parameter(format!(
            "parameter 'after' is a token of stream '{stream}', which {} '{}' does not read",
            subject.kind, subject.name
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

fn waited(subject: &Subject<'_>, params: &ReadParams) -> String {
    let what = match &params.after {
        Some(token) => format!("position {} of stream '{}'", token.position, token.stream),
        None => "an epoch as new as 'max_staleness' asks for".to_owned(),
    };
    format!(
        "{} '{}' did not reach {what} within {} ms: read again, or with a longer 'timeout'",
        subject.kind,
        subject.name,
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
