//! `GET /v1/queries/{name}/changes`: a query's answer, and then each change of it.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::stream::unfold;
use warp::http::HeaderMap;
use warp::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use warp::hyper::upgrade::OnUpgrade;
use warp::reply::{Reply, Response};

use super::driver::Driver;
use super::socket::Handshake;
use super::subscription::{Subscription, Wanted};
use super::wire::Format;
use crate::http::guard::one;
use crate::http::moment::scope;
use crate::http::params::ChangesParams;
use crate::http::problem::Problem;
use crate::http::pull::query;
use crate::http::server::Slot;
use crate::http::state::State;
use crate::http::token::Resume;
use crate::view::KeyRange;

/// Where a client says what it has got.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Asks proxies that would collect an answer to pass it on as it comes.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a request brings besides its address.
pub(in crate::http) struct Asked {
    pub(in crate::http) headers: HeaderMap,
    /// Set where the client asks to speak another protocol.
    pub(in crate::http) upgrade: Option<OnUpgrade>,
    /// The connection's place among those that may be open.
    pub(in crate::http) slot: Option<Slot>,
}

/// `GET /v1/queries/{name}/changes`.
pub(in crate::http) async fn changes(
    state: Arc<State>,
    name: String,
    raw: String,
    asked: Asked,
) -> Result<Response, Problem> {
    let params = ChangesParams::parse(&raw)?;
    let view = query(&state, &name)?;
    let spec = view.spec();
    if params.only_final && !spec.has_final {
        return Err(Problem::no_final(&spec.name));
    }
    let handshake = Handshake::read(&asked.headers, asked.upgrade, asked.slot)?;
    let resume = resume(&asked.headers, params.last_event_id.as_deref())?;
    let mut range = None;
    if let Some(key) = &params.key {
        range = Some(KeyRange::key(spec, key)?);
    }
    if let Some(prefix) = &params.prefix {
        let prefix = KeyRange::prefix(spec, prefix)?;
        range = Some(range.unwrap_or_else(KeyRange::all).and(prefix));
    }
    let kind = if params.only_final {
        "finals"
    } else {
        "changes"
    };
    let whole = scope(&[Some(kind), Some(&spec.name), None, None]);
    let (key, prefix) = (params.key.as_deref(), params.prefix.as_deref());
    let newest = state.upper()?;
    let hub = &state.hub;
    let place = hub.place()?;
    let views = &state.service.views;
    let feed = hub.feed(
        views,
        view,
        (params.only_final, whole),
        &newest,
        &state.shown,
    );
    let wanted = Wanted {
        feed: Arc::clone(&feed),
        range,
        scope: scope(&[Some(kind), Some(&spec.name), key, prefix]),
        format: match handshake {
            Some(_) => Format::Socket,
            None => Format::Sse,
        },
    };
    let subscription = Subscription::begin(wanted, resume, &hub.backlog)?;
    let stopping = state.stopping();
    let driver = Driver::new(subscription, feed.moved(), stopping, &hub.reading, place);
    Ok(match handshake {
        Some(handshake) => handshake.answer(driver),
        None => sse(driver),
    })
}

/// The token to go on from: the header's, which a client that reconnects by itself keeps up to
/// date, else the parameter's. An empty one is none.
fn resume(headers: &HeaderMap, parameter: Option<&str>) -> Result<Option<Resume>, Problem> {
    let header = one(headers, LAST_EVENT_ID)?.filter(|text| !text.is_empty());
    if let Some(text) = header {
        return Resume::decode(text, "header Last-Event-ID").map(Some);
    }
    let parameter = parameter.filter(|text| !text.is_empty());
    let decode = |text| Resume::decode(text, "parameter 'last_event_id'");
    parameter.map(decode).transpose()
}

fn sse(driver: Driver) -> Response {
    let frames = unfold(driver, |mut driver| async move {
        let frame = driver.next().await?;
        Some((Ok::<_, Infallible>(frame.bytes), driver))
    });
    let mut response = warp::reply::stream(frames).into_response();
    let headers = response.headers_mut();
    let stream = HeaderValue::from_static("text/event-stream");
    headers.insert(CONTENT_TYPE, stream);
    headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
    response
}
