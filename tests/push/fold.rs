//! One that folds what it is sent, and compares it with pulls.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::events::{Event, Subscription};
use crate::service::{Client, Lost};

/// What is subscribed to, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub query: &'static str,
    pub prefix: Option<&'static str>,
    pub only_final: bool,
    pub is_socket: bool,
}

impl Wanted {
    fn parameters(&self) -> String {
        let prefix = self.prefix.map(|prefix| format!("prefix={prefix}"));
        let only_final = self.only_final.then(|| "final=true".to_owned());
        let given = [prefix, only_final].into_iter().flatten();
        given.collect::<Vec<_>>().join("&")
    }

    pub fn subscribe(&self, url: &str, id: &str) -> Result<Subscription, Lost> {
        let path = format!("/v1/queries/{}/changes?{}", self.query, self.parameters());
        if self.is_socket {
            Subscription::socket(url, &path, id)
        } else {
            Subscription::sse(url, &path, id)
        }
    }
}

/// What was sent, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// How often each row occurs, by its key and value as JSON.
    pub rows: BTreeMap<String, i64>,
    /// Where to go on; empty where that is nowhere.
    pub id: String,
    pub as_of: u64,
    complete_through: Value,
}

impl Folded {
    /// Folds one event; says whether the rows are an answer now.
    pub fn fold(&mut self, event: &Event) -> bool {
        if event.name == "snapshot" && event.object["start"] == true {
            self.rows.clear();
        }
        let rows = |name: &str| event.object[name].as_array().cloned().unwrap_or_default();
        for row in &rows("rows") {
            self.count(row, 1);
        }
        for change in rows("changes") {
            self.count(&change, if change["op"] == "+" { 1 } else { -1 });
        }
        let Some(id) = &event.id else {
            return false;
        };
        self.id.clone_from(id);
        if id.is_empty() {
            return false;
        }
        let as_of = event.object["as_of"].as_u64().expect("an epoch");
        assert!(as_of >= self.as_of, "{as_of} comes after {}", self.as_of);
        self.as_of = as_of;
        self.complete_through = event.object["complete_through"].clone();
        true
    }

    fn count(&mut self, row: &Value, by: i64) {
        let place = json!([row["key"], row["value"]]).to_string();
        let count = self.rows.entry(place.clone()).or_insert(0);
        *count += by;
        if *count == 0 {
            self.rows.remove(&place);
        }
    }

    /// Compares with a pull at the same epoch; says whether there still is one.
    pub fn compare(&self, wanted: &Wanted, client: &Client) -> Result<bool, Lost> {
        let path = format!(
            "/v1/queries/{}?limit=10000&at={}&{}",
            wanted.query,
            self.as_of,
            wanted.parameters()
        );
        let reply = client.try_get(&path)?;
        if reply.status == 410 || reply.status == 503 {
            return Ok(false);
        }
        let answer = reply.ok();
        assert_eq!(
            answer["next"],
            Value::Null,
            "the answer has more than a page"
        );
        assert_eq!(answer["as_of"], self.as_of);
        assert_eq!(
            answer["complete_through"], self.complete_through,
            "{wanted:?}"
        );
        let mut pulled = Folded::default();
        for row in answer["rows"].as_array().expect("a list") {
            pulled.count(row, 1);
        }
        assert_eq!(self.rows, pulled.rows, "{wanted:?} at {}", self.as_of);
        Ok(true)
    }
}
