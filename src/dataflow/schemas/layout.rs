//! An Avro schema as a description of bytes: its types numbered, its names resolved, nothing else
//! kept of it.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, UuidSchema};
use serde_json::{Value, json};

use super::WriterSchema;

/// A type's place in a layout.
#[derive(Clone, Copy, Debug)]
pub struct At(usize);

/// How the bytes of a type are to be read.
#[derive(Debug)]
pub enum Node {
    /// No bytes.
    Null,
    /// One byte.
    Boolean,
    /// A varint of 32 bits.
    Int,
    /// A varint of 64 bits.
    Long,
    /// Four bytes.
    Float,
    /// Eight bytes.
    Double,
    /// A length and as many bytes.
    Bytes,
    /// A length and as many bytes of UTF-8.
    Text,
    /// As many bytes.
    Fixed(usize),
    /// A UUID of so many bytes, or of a length and as many.
    Uuid(Option<usize>),
    /// The unscaled value in so many bytes, or in a length and as many.
    Decimal {
        /// How many, if it is always the same.
        size: Option<usize>,
        /// Digits behind the point.
        scale: i64,
    },
    /// A length and as many bytes: the unscaled value as `Bytes`, and the scale as `Long`.
    BigDecimal,
    /// A varint of 64 bits; `n * ms / per` milliseconds since the epoch.
    Instant {
        /// Milliseconds in one of its units.
        ms: i64,
        /// Its units in a millisecond.
        per: i64,
    },
    /// A varint: which of the symbols.
    Enum(Vec<Box<str>>),
    /// Blocks of items.
    Array(At),
    /// Blocks of keys, as `Text`, and values.
    Map(At),
    /// A varint: which of the branches; then the branch.
    Union(Vec<Named>),
    /// The fields, one after the other.
    Record(Vec<Named>),
}

/// A field of a record, or a branch of a union under the name of its type.
#[derive(Debug)]
pub struct Named {
    /// The name, without a namespace.
    pub name: Box<str>,
    /// The type.
    pub at: At,
}

/// All types of a schema.
#[derive(Debug)]
pub struct Layout {
    nodes: Vec<Node>,
    root: At,
}

impl Layout {
    /// Understands a schema and those it refers to, which precede it: each after its own.
    pub fn new(schema: &WriterSchema) -> Result<Layout, String> {
        let references = schema.references.iter().map(|(_, text)| text);
        let mut fields = Vec::new();
        for (i, text) in references.chain([&schema.text]).enumerate() {
            let json: Value = serde_json::from_str(text)
                .map_err(|error| format!("the Avro schema is not JSON: {error}"))?;
            fields.push(json!({ "name": format!("schema{i}"), "type": json }));
        }
        // One record around all of them, so that the parser meets what a name stands for before the
        // name. It has no namespace: they would inherit it.
        let all = json!({ "type": "record", "name": "WaterclockSchemas", "fields": fields });
        let all = Schema::parse(&all)
            .map_err(|error| format!("the Avro schema cannot be used: {error}"))?;
        let mut plan = Plan::default();
        let whole = plan.add(&all);
        let Some(Node::Record(fields)) = &plan.nodes[whole.0] else {
            return Err("the Avro schema is empty".to_owned());
        };
        let root = fields.last().map_or(whole, |last| last.at);
        let nodes: Option<Vec<Node>> = plan.nodes.into_iter().collect();
        let nodes = nodes.ok_or("the Avro schema names a type that it does not define")?;
        Ok(Layout { nodes, root })
    }

    /// The type of the whole datum.
    pub fn root(&self) -> &Node {
        self.node(self.root)
    }

    /// A type by its place.
    pub fn node(&self, at: At) -> &Node {
        &self.nodes[at.0]
    }
}

/// A layout in the making: a type that is named before it is known has a place already.
#[derive(Default)]
struct Plan {
    nodes: Vec<Option<Node>>,
    named: BTreeMap<String, At>,
}

impl Plan {
    fn add(&mut self, schema: &Schema) -> At {
        let at = match schema.name() {
            Some(name) => self.place_of(&name.fullname(None)),
            None => self.place(),
        };
        if !matches!(schema, Schema::Ref { .. }) {
            let node = self.node(schema);
            self.nodes[at.0] = Some(node);
        }
        at
    }

    fn place(&mut self) -> At {
        self.nodes.push(None);
        At(self.nodes.len() - 1)
    }

    fn place_of(&mut self, name: &str) -> At {
        if let Some(at) = self.named.get(name) {
            return *at;
        }
        let at = self.place();
        self.named.insert(name.to_owned(), at);
        at
    }

    fn node(&mut self, schema: &Schema) -> Node {
        match schema {
            Schema::Null | Schema::Ref { .. } => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int | Schema::TimeMillis => Node::Int,
            Schema::Long | Schema::TimeMicros => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes => Node::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Node::Text,
            Schema::Fixed(fixed) | Schema::Duration(fixed) => Node::Fixed(fixed.size),
            Schema::Uuid(UuidSchema::Bytes) => Node::Uuid(None),
            Schema::Uuid(UuidSchema::Fixed(fixed)) => Node::Uuid(Some(fixed.size)),
            Schema::BigDecimal => Node::BigDecimal,
            Schema::Decimal(decimal) => Node::Decimal {
                size: match &decimal.inner {
                    InnerDecimalSchema::Bytes => None,
                    InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
                },
                scale: i64::try_from(decimal.scale).unwrap_or(i64::MAX),
            },
            Schema::Date => instant(86_400_000, 1),
            Schema::TimestampMillis | Schema::LocalTimestampMillis => instant(1, 1),
            Schema::TimestampMicros | Schema::LocalTimestampMicros => instant(1, 1_000),
            Schema::TimestampNanos | Schema::LocalTimestampNanos => instant(1, 1_000_000),
            Schema::Enum(symbols) => {
                Node::Enum(symbols.symbols.iter().map(|s| s.as_str().into()).collect())
            }
            Schema::Array(array) => Node::Array(self.add(&array.items)),
            Schema::Map(map) => Node::Map(self.add(&map.types)),
            Schema::Union(union) => {
                let branches = union.variants().iter();
                Node::Union(
                    branches
                        .map(|branch| self.named(type_name(branch), branch))
                        .collect(),
                )
            }
            Schema::Record(record) => {
                let fields = record.fields.iter();
                Node::Record(
                    fields
                        .map(|f| self.named(f.name.clone(), &f.schema))
                        .collect(),
                )
            }
        }
    }

    fn named(&mut self, name: String, schema: &Schema) -> Named {
        Named {
            name: name.into(),
            at: self.add(schema),
        }
    }
}

fn instant(ms: i64, per: i64) -> Node {
    Node::Instant { ms, per }
}

/// A type's own name, or its kind in lower case.
fn type_name(schema: &Schema) -> String {
    match schema.name() {
        Some(name) => name.name().to_owned(),
        None => schema.to_string().to_lowercase(),
    }
}
