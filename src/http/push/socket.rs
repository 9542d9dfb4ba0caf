//! Subscriptions over a WebSocket: the handshake, and the connection that follows it.

use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame as RawFrame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use warp::http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use warp::http::{HeaderMap, Response as HttpResponse, StatusCode};
use warp::hyper::upgrade::{OnUpgrade, Upgraded};
use warp::reply::Response;

use super::driver::Driver;
use super::wire::{Frame, PIECE};
use crate::http::guard::one;
use crate::http::problem::{Kind, Problem};
use crate::http::server::Slot;

/// The most bytes of a message of the client, which has nothing to say.
const HEARD: usize = 4 << 10;

/// An accepted handshake.
pub(super) struct Handshake {
    upgrade: OnUpgrade,
    accept: HeaderValue,
    slot: Option<Slot>,
}

impl Handshake {
    /// Reads the request's headers; `None` where it asks for no WebSocket.
    pub(super) fn read(
        headers: &HeaderMap,
        upgrade: Option<OnUpgrade>,
        slot: Option<Slot>,
    ) -> Result<Option<Handshake>, Problem> {
        let is_websocket = |value: &str| value.trim().eq_ignore_ascii_case("websocket");
        let Some(upgrade) = upgrade.filter(|_| {
            let asked = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
            asked.is_some_and(|value| value.split(',').any(is_websocket))
        }) else {
            return Ok(None);
        };
        if one(headers, SEC_WEBSOCKET_VERSION)? != Some("13") {
            return Err(Problem::parameter(
                "header Sec-WebSocket-Version must be 13, which is what this service speaks",
            ));
        }
        let key = one(headers, SEC_WEBSOCKET_KEY)?.ok_or_else(|| {
            Problem::parameter("header Sec-WebSocket-Key is missing, as every client sends it")
        })?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
            .map_err(|_| Problem::new(Kind::Internal, "the handshake has no answer"))?;
        Ok(Some(Handshake {
            upgrade,
            accept,
            slot,
        }))
    }

    /// Answers it; the subscription begins as soon as the answer has gone out.
    pub(super) fn answer(self, driver: Driver) -> Response {
        let Handshake {
            upgrade,
            accept,
            slot,
        } = self;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    if let Err(error) = follow(upgraded, driver).await {
                        tracing::debug!(%error, "a WebSocket broke off");
                    }
                }
                Err(error) => tracing::debug!(%error, "a connection did not become a WebSocket"),
            }
            drop(slot);
        });
        let mut response = HttpResponse::new("".into());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

/// Sends events until either side has had enough.
async fn follow(upgraded: Upgraded, mut driver: Driver) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(HEARD)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * PIECE)
        .max_message_size(Some(HEARD))
        .max_frame_size(Some(HEARD));
    let stream = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    loop {
        tokio::select! {
            frame = driver.next() => match frame {
                Some(frame) => socket.send(Message::Frame(raw(frame))).await?,
                None => break,
            },
            // Pings are answered in passing; nothing else is asked of us.
            heard = socket.next() => match heard {
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(heard) => drop(heard?),
            },
        }
    }
    let goodbye = CloseFrame {
        code: CloseCode::Away,
        reason: "connect again with the last id".into(),
    };
    socket.close(Some(goodbye)).await
}

/// A piece of an event as a fragment of a message.
fn raw(frame: Frame) -> RawFrame {
    let kind = if frame.is_first {
        Data::Text
    } else {
        Data::Continue
    };
    RawFrame::message(frame.bytes, OpCode::Data(kind), frame.is_last)
}
