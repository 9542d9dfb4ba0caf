//! What happens to every request, whatever its route: it is checked, its body read, its time
//! limited, a panic caught, and its answer counted.

use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::service::TowerToHyperService;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use warp::filters::BoxedFilter;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HeaderValue, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::request::Parts;
use warp::http::{Method, Request};
use warp::hyper::body::{Body, Bytes};
use warp::hyper::service::Service as _;
use warp::reply::Response;

use super::accept::{Accepts, Coding};
use super::body::{self, Held};
use super::coding::{WORTHWHILE, coded};
use super::cors;
use super::guard::{Guard, is_preflight};
use super::problem::{Kind, Problem};
use super::render::PIECE;
use super::routes::{CHECKPOINTS, routes};
use super::state::State;

/// Answers requests. It never fails: whatever goes wrong is an answer too.
pub(super) struct Edge {
    pub(super) state: Arc<State>,
    guard: Guard,
    routes: BoxedFilter<(Response,)>,
}

impl Edge {
    pub(super) fn new(state: Arc<State>) -> Edge {
        let guard = Guard::new(&state.service.options);
        Edge {
            guard,
            routes: routes(&state),
            state,
        }
    }

    /// Answers a request that came in at the address `local`.
    pub(super) async fn answer<B>(&self, request: Request<B>, local: IpAddr) -> Response
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let uri = request.uri().clone();
        let origin = self.guard.allowed_origin(&request);
        let outcome = caught(self.checked(request, local))
            .await
            .unwrap_or_else(|()| {
                let path = uri.path();
                tracing::error!(path, "a request handler panicked");
                let detail = format!("the service failed while it answered '{path}': see its log");
                Err(Problem::new(Kind::Internal, detail))
            });
        let mut response = outcome.unwrap_or_else(Problem::into_response);
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let cached = headers.entry(CACHE_CONTROL);
        cached.or_insert(HeaderValue::from_static("no-store"));
        if let Some(origin) = origin {
            cors::allow(headers, origin);
        }
        self.state.requests.count(&response);
        response
    }

    async fn checked<B>(&self, request: Request<B>, local: IpAddr) -> Result<Response, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let verdict = self.guard.check(&request, local);
        if is_preflight(&request) && self.guard.allowed_origin(&request).is_some() {
            return verdict.map(|()| cors::preflight());
        }
        let (head, body) = request.into_parts();
        // Holds the body's share of the budget until the answer stands.
        let held = if body.is_end_stream() {
            verdict.map(|()| Held::default())?
        } else {
            self.read(&head, body, verdict.err()).await?
        };
        let patience = self.patience(&head);
        let accepts = Accepts::of(&head.headers);
        let coding = accepts.coding;
        let mut request = Request::from_parts(head, Full::new(held.bytes.clone()));
        request.extensions_mut().insert(accepts);
        let service = TowerToHyperService::new(warp::service(self.routes.clone()));
        match timeout(patience, service.call(request)).await {
            Ok(Ok(response)) => Ok(compressed(response, coding).await),
            Err(_) => Err(Problem::new(
                Kind::WaitedTooLong,
                format!(
                    "no answer within {} s; a post may be stored or not: repeat it under the same \
                     Idempotency-Key",
                    patience.as_secs()
                ),
            )),
        }
    }

    async fn read<B>(
        &self,
        head: &Parts,
        body: B,
        refusal: Option<Problem>,
    ) -> Result<Held, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let options = &self.state.service.options;
        let limit = options.body_limit;
        let declared = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|n| n.to_str().ok()?.parse().ok());
        let is_too_large = declared.is_some_and(|declared: u64| declared > limit as u64);
        let refusal = refusal.or_else(|| is_too_large.then(|| body::too_large(limit)));
        if let Some(problem) = &refusal
            && head.headers.contains_key(EXPECT)
        {
            // A client that waits for leave to send has sent nothing that must be heard out.
            return Err(problem.clone());
        }
        let reading = body::read(body, limit, &self.state.body_budget, refusal);
        timeout(options.request_timeout, reading)
            .await
            .unwrap_or_else(|_| {
                let seconds = options.request_timeout.as_secs();
                Err(Problem::new(
                    Kind::Slow,
                    format!("the body did not arrive within {seconds} s"),
                ))
            })
    }

    /// How long a handler may take: longer where its client asks to wait.
    fn patience(&self, head: &Parts) -> Duration {
        let options = &self.state.service.options;
        let asks_to_wait = |query: &str| query.contains("after") || query.contains("max_staleness");
        let may_wait = (head.method == Method::POST && head.uri.path() == CHECKPOINTS)
            || head.uri.query().is_some_and(asks_to_wait);
        options.request_timeout
            + if may_wait {
                options.max_wait
            } else {
                Duration::ZERO
            }
    }
}

/// Compresses an answer that is whole, if it is worth it.
async fn compressed(response: Response, coding: Coding) -> Response {
    let size = response.body().size_hint().exact().unwrap_or(0);
    let is_coded = response.headers().contains_key(CONTENT_ENCODING);
    if coding == Coding::Identity || is_coded || size < WORTHWHILE {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            tracing::error!(%error, "an answer of known length broke off");
            return Problem::stopping().into_response();
        }
    };
    let code = move || coded(coding, bytes.into()).ok();
    let coded = if size > PIECE as u64 {
        spawn_blocking(code).await.ok().flatten()
    } else {
        code()
    };
    let Some(coded) = coded else {
        return Problem::new(Kind::Internal, "the answer could not be compressed").into_response();
    };
    let name = HeaderValue::from_static(coding.name());
    head.headers.insert(CONTENT_ENCODING, name);
    let vary = head.headers.entry(VARY);
    vary.or_insert(HeaderValue::from_static("Accept-Encoding"));
    Response::from_parts(head, coded.into())
}

/// Runs a future to its end, or to its panic.
async fn caught<F: Future>(future: F) -> Result<F::Output, ()> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        // What a panicking handler leaves half done is its own request's; what requests share is
        // counters, and locks that are taken over poisoned or not.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(())),
        }
    })
    .await
}
