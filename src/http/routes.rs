//! The addresses of the service: which path and method leads to which handler.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, Method};
use warp::hyper::body::Bytes;
use warp::path::{FullPath, Tail, full, tail};
use warp::reply::Response;
use warp::{Filter, Rejection, path};

use super::metrics::RouteName;
use super::problem::{Kind, Problem};
use super::push::{self, Asked};
use super::state::State;
use super::{catalog, dashboard, metrics, post, pull};

/// Where checkpoints are taken and listed.
pub(super) const CHECKPOINTS: &str = "/v1/checkpoints";

const READ: &str = "GET, HEAD";
/// Nothing is known of an endless answer without beginning it.
const STREAM: &str = "GET";
const WRITE: &str = "POST";
const BOTH: &str = "GET, HEAD, POST";

/// Every address. The read of one key comes first: it is asked most.
pub(super) fn routes(state: &Arc<State>) -> BoxedFilter<(Response,)> {
    let nothing = full().and_then(|path: FullPath| async move {
        Err::<Response, _>(warp::reject::custom(Nothing(path)))
    });
    let routes = reads(state)
        .or(records(state))
        .unify()
        .or(lists(state))
        .unify();
    let routes = routes.or(operations(state)).unify().or(nothing).unify();
    routes.recover(refusal).unify().boxed()
}

fn reads(state: &Arc<State>) -> BoxedFilter<(Response,)> {
    let key = path!("v1" / "queries" / String / "key" / ..)
        .and(tail())
        .and(only(READ))
        .and(raw_query())
        .and(with(state))
        .then(|query, key: Tail, _, raw, state| async move {
            answer("key", pull::key(state, query, key.as_str().to_owned(), raw)).await
        });
    let rows = path!("v1" / "queries" / String)
        .and(only(READ))
        .and(raw_query())
        .and(with(state))
        .then(|query, _, raw, state| answer("query", pull::rows(state, query, raw)));
    let late = path!("v1" / "queries" / String / "late")
        .and(only(READ))
        .and(raw_query())
        .and(with(state))
        .then(|query, _, raw, state| answer("late", pull::late(state, query, raw)));
    let rejected = path!("v1" / "streams" / String / "rejected")
        .and(only(READ))
        .and(raw_query())
        .and(with(state))
        .then(|stream, _, raw, state| answer("rejected", pull::rejected(state, stream, raw)));
    let changes = path!("v1" / "queries" / String / "changes")
        .and(only(STREAM))
        .and(raw_query())
        .and(asked())
        .and(with(state))
        .then(|query, _, raw, asked, state| {
            answer("changes", push::changes(state, query, raw, asked))
        });
    key.or(rows)
        .unify()
        .or(changes)
        .unify()
        .or(late)
        .unify()
        .or(rejected)
        .unify()
        .boxed()
}

fn records(state: &Arc<State>) -> BoxedFilter<(Response,)> {
    path!("v1" / "streams" / String)
        .and(only(WRITE))
        .and(raw_query())
        .and(warp::header::headers_cloned())
        .and(warp::body::bytes())
        .and(with(state))
        .then(|stream, _, raw, headers: HeaderMap, body: Bytes, state| {
            answer("post", post::records(state, stream, raw, headers, body))
        })
        .boxed()
}

fn lists(state: &Arc<State>) -> BoxedFilter<(Response,)> {
    let queries = path!("v1" / "queries")
        .and(only(READ))
        .and(raw_query())
        .and(with(state))
        .map(|_, raw: String, state: Arc<State>| now("queries", catalog::queries(&state, &raw)));
    let streams = path!("v1" / "streams")
        .and(only(READ))
        .and(raw_query())
        .and(with(state))
        .map(|_, raw: String, state: Arc<State>| now("streams", catalog::streams(&state, &raw)));
    let sinks = path!("v1" / "sinks")
        .and(only(READ))
        .and(raw_query())
        .and(with(state))
        .map(|_, raw: String, state: Arc<State>| now("sinks", catalog::sinks(&state, &raw)));
    let checkpoints = path!("v1" / "checkpoints")
        .and(only(BOTH))
        .and(raw_query())
        .and(with(state))
        .then(|method, raw, state| answer("checkpoints", catalog::checkpoints(state, method, raw)));
    queries
        .or(streams)
        .unify()
        .or(sinks)
        .unify()
        .or(checkpoints)
        .unify()
        .boxed()
}

fn operations(state: &Arc<State>) -> BoxedFilter<(Response,)> {
    let health = path!("healthz")
        .and(only(READ))
        .and(raw_query())
        .map(|_, raw: String| now("healthz", catalog::health(&raw)));
    let readiness = path!("readyz")
        .and(only(READ))
        .and(raw_query())
        .and(with(state))
        .map(|_, raw: String, state: Arc<State>| now("readyz", catalog::readiness(&state, &raw)));
    let metrics = path!("metrics")
        .and(only(READ))
        .and(raw_query())
        .and(with(state))
        .map(|_, raw: String, state: Arc<State>| now("metrics", metrics::metrics(&state, &raw)));
    let dashboard = path::end()
        .and(only(READ))
        .map(|_| now("dashboard", Ok(dashboard::page())));
    health
        .or(readiness)
        .unify()
        .or(metrics)
        .unify()
        .or(dashboard)
        .unify()
        .boxed()
}

/// What a subscription needs to know of its request.
fn asked() -> impl Filter<Extract = (Asked,), Error = Infallible> + Copy {
    warp::header::headers_cloned()
        .and(warp::ext::optional())
        .and(warp::ext::optional())
        .map(|headers, upgrade, slot| Asked {
            headers,
            upgrade,
            slot,
        })
}

/// Passes on the method if it is one of `allowed`. It stands after the path, so that a wrong
/// method is told from a wrong address.
fn only(allowed: &'static str) -> impl Filter<Extract = (Method,), Error = Rejection> + Copy {
    warp::method()
        .and(full())
        .and_then(move |method: Method, path: FullPath| async move {
            if allowed.split(", ").any(|name| name == method.as_str()) {
                return Ok(method);
            }
            let detail = format!("'{}' takes {allowed}, not {method}", path.as_str());
            Err(warp::reject::custom(Problem::new(
                Kind::Method(allowed),
                detail,
            )))
        })
}

/// The text after the `?`, empty where there is none.
fn raw_query() -> impl Filter<Extract = (String,), Error = Infallible> + Copy {
    warp::query::raw().or_else(|_| async { Ok((String::new(),)) })
}

fn with(
    state: &Arc<State>,
) -> impl Filter<Extract = (Arc<State>,), Error = Infallible> + Clone + use<> {
    let state = Arc::clone(state);
    warp::any().map(move || Arc::clone(&state))
}

/// Waits for a handler and notes which route it was.
async fn answer(
    route: &'static str,
    handler: impl Future<Output = Result<Response, Problem>>,
) -> Response {
    now(route, handler.await)
}

/// Notes which route an outcome is of.
fn now(route: &'static str, outcome: Result<Response, Problem>) -> Response {
    let mut response = outcome.unwrap_or_else(Problem::into_response);
    response.extensions_mut().insert(RouteName(route));
    response
}

/// Rejects a path that no route takes. It is not a problem yet: a route that takes the path with
/// another method has more to say.
#[derive(Debug)]
struct Nothing(FullPath);

impl warp::reject::Reject for Nothing {}

/// What is answered when no route is taken.
async fn refusal(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = if let Some(problem) = rejection.find::<Problem>() {
        problem.clone()
    } else if let Some(Nothing(path)) = rejection.find() {
        let detail = format!("nothing is at '{}': see /v1/queries", path.as_str());
        Problem::new(Kind::NotFound, detail)
    } else {
        tracing::error!(
            ?rejection,
            "a request was refused for a reason that is not ours"
        );
        Problem::new(
            Kind::Internal,
            "the service could not read the request: see its log",
        )
    };
    Ok(problem.into_response())
}
