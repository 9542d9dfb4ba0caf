//! A client of schema registries that speak Confluent's HTTP interface: it fetches the schema a
//! record was written with, and those that it refers to. It registers nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::StatusCode;

use crate::dataflow::schemas::{SchemaKind, WriterSchema};

#[cfg(test)]
mod tests;
mod tls;

/// Longest answer read, in bytes, and longest schema with all it refers to.
const MAX_SCHEMA_BYTES: usize = 16 << 20;
/// Most schemas that one may refer to, directly or in turn.
const MAX_REFERENCES: usize = 256;
/// Bytes of schemas kept; beyond that the lowest id is fetched again when it is wanted.
const MAX_KEPT_BYTES: usize = 64 << 20;
/// Most ids kept that the registry does not know.
const MAX_UNKNOWN: usize = 10_000;
/// How long the registry is not asked again for an id that it does not know.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// The error codes of a registry that say that there is no such schema, subject or version.
const NO_SCHEMA: u32 = 40403;
const NO_SUCH: [u32; 3] = [40401, 40402, NO_SCHEMA];

/// Where a registry is, and who asks it.
#[derive(Clone)]
pub struct RegistryOptions {
    /// `http://HOST:PORT` or `https://`, with a path if the registry is not at the root.
    pub url: String,
    /// The user, where the registry wants one.
    pub user: Option<String>,
    /// Its password: never shown.
    pub password: Option<String>,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions")
            .field("user", &self.user)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Why there is no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The settings name no registry. The URL is not shown: it may hold a password.
    #[error("the schema registry's URL {0}")]
    BadUrl(&'static str),
    /// The registry wants another user or password.
    #[error(
        "the schema registry at {url} refuses {whom} (status {status}); set its user and password"
    )]
    Refused {
        /// Where.
        url: String,
        /// The user that asked, or nobody.
        whom: String,
        /// 401 or 403.
        status: u16,
    },
    /// The registry knows no schema of this id: the record is bad.
    #[error("the registry has no schema {0}")]
    Unknown(u32),
    /// The schema is there and cannot be used: records written with it are bad.
    #[error("schema {id} of the registry cannot be used: {what}")]
    Unusable {
        /// The schema.
        id: u32,
        /// What is wrong with it.
        what: String,
    },
    /// No answer, or one that says that it cannot answer now.
    #[error("no answer from the schema registry at {url}: {cause}")]
    Unavailable {
        /// Where.
        url: String,
        /// What went wrong.
        cause: String,
    },
    /// What answers there does not do so as a registry does.
    #[error("{url} does not answer as a schema registry does: {what}")]
    Foreign {
        /// Where.
        url: String,
        /// What is wrong with the answer.
        what: String,
    },
}

impl RegistryError {
    /// Whether asking again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            RegistryError::Unavailable { .. } | RegistryError::Foreign { .. }
        )
    }

    /// Whether the record is at fault that names the schema. What is neither this nor transient is
    /// a matter of the settings.
    pub fn is_of_record(&self) -> bool {
        matches!(
            self,
            RegistryError::Unknown(_) | RegistryError::Unusable { .. }
        )
    }
}

/// A registry. Not `Debug`: it holds the password.
pub struct Registry {
    agent: Agent,
    /// The URL without a slash at its end.
    base: String,
    user: Option<String>,
    authorization: Option<String>,
    kept: Mutex<Kept>,
    unknown_for: Duration,
}

/// What the registry said; schemas never change.
#[derive(Default)]
struct Kept {
    schemas: BTreeMap<u32, Arc<WriterSchema>>,
    bytes: usize,
    /// When the registry last said that it does not know an id.
    unknown: BTreeMap<u32, Instant>,
}

impl Registry {
    /// The registry at its URL. Nothing is sent yet.
    pub fn new(options: RegistryOptions) -> Result<Registry, RegistryError> {
        let base = options.url.trim().trim_end_matches('/');
        let is_secure = base.starts_with("https://");
        let host = base.strip_prefix(if is_secure { "https://" } else { "http://" });
        let host = host.unwrap_or_default();
        if host.is_empty() || !base.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(RegistryError::BadUrl(
                "is to be http://HOST:PORT or https://HOST:PORT",
            ));
        }
        if host.contains(['@', '?', '#']) {
            return Err(RegistryError::BadUrl(
                "is to name a place only: a user and a password have settings of their own",
            ));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(options.timeout))
            // A redirect is reported: it would carry the question, or the password, elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The registry is meant, not whatever proxy the environment names.
            .proxy(None);
        let config = if is_secure {
            config.tls_config(tls::config()?)
        } else {
            config
        };
        let authorization = options.user.as_ref().map(|user| {
            let password = options.password.as_deref().unwrap_or_default();
            format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{user}:{password}"))
            )
        });
        Ok(Registry {
            agent: config.build().into(),
            base: base.to_owned(),
            user: options.user,
            authorization,
            kept: Mutex::default(),
            unknown_for: UNKNOWN_FOR,
        })
    }

    /// The schema of an id. Blocks until the registry answers, or the timeout has passed for it or
    /// one of those it refers to; asks once for each id.
    pub fn schema(&self, id: u32) -> Result<Arc<WriterSchema>, RegistryError> {
        let now = now();
        {
            let kept = self.kept();
            if let Some(schema) = kept.schemas.get(&id) {
                return Ok(Arc::clone(schema));
            }
            let since = kept.unknown.get(&id);
            if since.is_some_and(|since| now.duration_since(*since) < self.unknown_for) {
                return Err(RegistryError::Unknown(id));
            }
        }
        let fetched = self.fetch(id).map(Arc::new);
        let mut kept = self.kept();
        match &fetched {
            Ok(schema) => kept.keep(id, schema),
            Err(RegistryError::Unknown(_)) => kept.keep_unknown(id, now),
            Err(_) => {}
        }
        fetched
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetch(&self, id: u32) -> Result<WriterSchema, RegistryError> {
        let unusable = |what: String| RegistryError::Unusable { id, what };
        let answer: Registered = match self.get(&format!("/schemas/ids/{id}"))? {
            Answer::Is(registered) => registered,
            Answer::None {
                code: NO_SCHEMA, ..
            } => return Err(RegistryError::Unknown(id)),
            Answer::None { message, .. } => return Err(self.foreign(message)),
        };
        let kind = match answer.schema_type.as_deref() {
            None | Some("AVRO") => SchemaKind::Avro,
            Some("PROTOBUF") => SchemaKind::Protobuf,
            Some("JSON") => SchemaKind::Json,
            Some(other) => return Err(unusable(format!("its type is '{other}'"))),
        };
        let mut gathered = Gathered {
            id,
            bytes: answer.schema.len(),
            seen: BTreeSet::new(),
            references: Vec::new(),
        };
        self.gather(answer.references, &mut gathered)?;
        Ok(WriterSchema {
            kind,
            text: answer.schema,
            references: gathered.references,
        })
    }

    /// Fetches what a schema refers to, each after what it refers to itself.
    fn gather(
        &self,
        references: Vec<Reference>,
        gathered: &mut Gathered,
    ) -> Result<(), RegistryError> {
        let id = gathered.id;
        let unusable = |what: String| RegistryError::Unusable { id, what };
        for reference in references {
            let Reference {
                name,
                subject,
                version,
            } = reference;
            if !gathered.seen.insert(name.clone()) {
                continue;
            }
            if gathered.seen.len() > MAX_REFERENCES {
                return Err(unusable(format!(
                    "it refers to more than {MAX_REFERENCES} others"
                )));
            }
            // What is referred to stays readable when its subject is deleted.
            let path = format!(
                "/subjects/{}/versions/{version}?deleted=true",
                percent_encoded(&subject)
            );
            let answer: Registered = match self.get(&path)? {
                Answer::Is(registered) => registered,
                Answer::None { code, .. } if NO_SUCH.contains(&code) => {
                    let what = format!("version {version} of subject '{subject}' is not there");
                    return Err(unusable(format!("it refers to '{name}', but {what}")));
                }
                Answer::None { message, .. } => return Err(self.foreign(message)),
            };
            gathered.bytes += answer.schema.len();
            if gathered.bytes > MAX_SCHEMA_BYTES {
                return Err(unusable(format!(
                    "it is longer than {MAX_SCHEMA_BYTES} bytes"
                )));
            }
            self.gather(answer.references, gathered)?;
            gathered.references.push((name, answer.schema));
        }
        Ok(())
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, RegistryError> {
        let mut request = self.agent.get(format!("{}{path}", self.base)).header(
            "Accept",
            "application/vnd.schemaregistry.v1+json, application/json",
        );
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let mut response = request.call().map_err(|error| self.failed(error))?;
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get("Location");
            let to = to
                .and_then(|to| to.to_str().ok())
                .unwrap_or("another place");
            return Err(self.foreign(format!("it redirects to {}", cut(to))));
        }
        let body = response.body_mut().with_config();
        let body = body.limit(MAX_SCHEMA_BYTES as u64).read_to_vec();
        let body = body.map_err(|error| self.failed(error))?;
        if status.is_success() {
            let read = serde_json::from_slice(&body).map(Answer::Is);
            return read.map_err(|error| self.foreign(format!("its answer to {path}: {error}")));
        }
        let said = serde_json::from_slice::<Said>(&body).unwrap_or_default();
        let message = format!(
            "status {} for {path}: {}",
            status.as_u16(),
            cut(&said.message)
        );
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RegistryError::Refused {
                url: self.base.clone(),
                whom: match &self.user {
                    Some(user) => format!("user '{user}'"),
                    None => "to answer without a user".to_owned(),
                },
                status: status.as_u16(),
            }),
            StatusCode::NOT_FOUND => Ok(Answer::None {
                code: said.error_code,
                message,
            }),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(self.unavailable(message))
            }
            status if status.is_server_error() => Err(self.unavailable(message)),
            _ => Err(self.foreign(message)),
        }
    }

    fn failed(&self, error: ureq::Error) -> RegistryError {
        match error {
            ureq::Error::BodyExceedsLimit(limit) => {
                self.foreign(format!("its answer is longer than {limit} bytes"))
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                self.foreign(error.to_string())
            }
            error => self.unavailable(error.to_string()),
        }
    }

    fn unavailable(&self, cause: String) -> RegistryError {
        RegistryError::Unavailable {
            url: self.base.clone(),
            cause,
        }
    }

    fn foreign(&self, what: String) -> RegistryError {
        RegistryError::Foreign {
            url: self.base.clone(),
            what,
        }
    }
}

impl Kept {
    fn keep(&mut self, id: u32, schema: &Arc<WriterSchema>) {
        self.unknown.remove(&id);
        self.bytes += size(schema);
        if let Some(before) = self.schemas.insert(id, Arc::clone(schema)) {
            self.bytes -= size(&before);
        }
        while self.bytes > MAX_KEPT_BYTES && self.schemas.len() > 1 {
            let lowest = self.schemas.pop_first();
            self.bytes -= lowest.map_or(0, |(_, schema)| size(&schema));
        }
    }

    fn keep_unknown(&mut self, id: u32, now: Instant) {
        if self.unknown.len() >= MAX_UNKNOWN {
            self.unknown.clear();
        }
        self.unknown.insert(id, now);
    }
}

fn size(schema: &WriterSchema) -> usize {
    let references = schema.references.iter();
    let references: usize = references.map(|(name, text)| name.len() + text.len()).sum();
    schema.text.len() + references
}

/// A schema's references while they are fetched.
struct Gathered {
    id: u32,
    bytes: usize,
    seen: BTreeSet<String>,
    references: Vec<(String, String)>,
}

/// What was asked for, or what the registry says instead if it has no such thing.
enum Answer<T> {
    Is(T),
    None { code: u32, message: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    error_code: u32,
    message: String,
}

#[allow(
    clippy::disallowed_methods,
    reason = "how long an id is unknown is no matter of records"
)]
fn now() -> Instant {
    Instant::now()
}

/// The beginning of what a stranger said.
fn cut(text: &str) -> String {
    text.chars().take(200).filter(|c| !c.is_control()).collect()
}

/// Text as one segment of a path.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
