//! Rows to and from Arrow columns, by their serde shape. In memory only: no files.
//!
//! Columns are named after the fields, so rows load after fields were reordered, removed, or added
//! with `#[serde(default)]` (or as an `Option`). The schema is traced from the type alone, the same
//! with no rows at all.
//!
//! | in a row | as a column |
//! |---|---|
//! | integers to 64 bits, floats, `bool`, text, bytes | the same |
//! | `char` | `UInt32` |
//! | `Timestamp` | `Int64`, any value |
//! | `Wide` for `i128` | struct of `hi` and `lo` |
//! | struct; tuple and array | struct of named columns; of columns `0`, `1`, .. |
//! | newtype | what it wraps |
//! | `Vec`; map | list; map |
//! | `Option<T>` | nullable `T` |
//! | `()` and unit structs | null |
//! | enum of bare variants | the variant's name as text |
//! | enum with data | dense union of at most 127 variants |
//!
//! Types that cannot be traced alone (`flatten`, `untagged`, text that must parse) are traced from
//! the rows at hand, and such a batch is read back before it is given out. Refused: an `Option` of
//! an enum with data (make absence a variant), `i128` outside [`Wide`], and a row without fields.
//! Nested options keep one level, and `Option<()>` reads as `None`. A type that contains itself
//! cannot be a row: tracing it does not end.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_arrow::schema::{SchemaLike, TracingOptions};
use sha2::{Digest, Sha256};

use crate::time::reading_plain_times;

/// Passes over the type that tracing may need: one per variant of its largest enum.
const TRACING_BUDGET: usize = 1000;

/// Why rows cannot be columns, or columns not rows.
#[derive(Debug, thiserror::Error)]
pub enum ColumnError {
    /// The row's type has no column form.
    #[error("rows of type {row} have no columns: {detail}")]
    Unsupported {
        /// The Rust type of the row.
        row: &'static str,
        /// What stands in the way.
        detail: String,
    },
    /// A row could not be written.
    #[error("cannot write rows of type {row} as columns: {detail}")]
    Write {
        /// The Rust type of the row.
        row: &'static str,
        /// What went wrong, with the column.
        detail: String,
    },
    /// The columns are not those of the type.
    #[error(
        "the columns ({columns}) do not fit rows of type {row}: {detail}; \
         give fields that were added a `#[serde(default)]`"
    )]
    Read {
        /// The Rust type of the row.
        row: &'static str,
        /// The columns there are.
        columns: String,
        /// What went wrong, with the column.
        detail: String,
    },
}

/// Writes rows as one batch of columns.
pub fn to_batch<R: Serialize + DeserializeOwned>(rows: &[R]) -> Result<RecordBatch, ColumnError> {
    match trace::<R>()? {
        Shape::Traced(fields) => write(&fields, rows),
        Shape::FromRows(_) if rows.is_empty() => Ok(RecordBatch::new_empty(Arc::new(
            arrow_schema::Schema::empty(),
        ))),
        Shape::FromRows(why) => {
            let sampled = reading_plain_times(|| Vec::<FieldRef>::from_samples(rows, options()));
            let fields = sampled.map_err(|cause| unsupported::<R>(&format!("{why}; {cause}")))?;
            let fields = plain_text(&fields);
            let batch = write(&fields, rows)?;
            let again: Vec<R> = from_batch(&batch)?;
            // Columns alone would not tell: a key absent in one row becomes a null of that row.
            match (serde_json::to_string(rows), serde_json::to_string(&again)) {
                (Ok(before), Ok(after)) if before == after => Ok(batch),
                _ => Err(unsupported::<R>(&why)),
            }
        }
    }
}

/// Reads rows back from a batch that [`to_batch`] made, perhaps of an older shape of the type.
pub fn from_batch<R: DeserializeOwned>(batch: &RecordBatch) -> Result<Vec<R>, ColumnError> {
    if batch.num_rows() == 0 {
        return Ok(Vec::new());
    }
    reading_plain_times(|| serde_arrow::from_record_batch(batch)).map_err(|cause| {
        let names: Vec<_> = batch
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        ColumnError::Read {
            row: std::any::type_name::<R>(),
            columns: names.join(", "),
            detail: cause.to_string(),
        }
    })
}

/// A number for the columns of a row type: the same in every build while names and types of the
/// columns are the same, in whatever order. Types traced from rows at hand all have one number.
pub fn fingerprint<R: DeserializeOwned>() -> Result<u64, ColumnError> {
    let text = match trace::<R>()? {
        Shape::Traced(fields) => describe_all(&fields),
        Shape::FromRows(_) => "from rows".to_owned(),
    };
    let digest = Sha256::digest(text.as_bytes());
    let head = digest.first_chunk().expect("a SHA-256 digest has 32 bytes");
    Ok(u64::from_be_bytes(*head))
}

/// An `i128` that can be a column: serialises as `{"hi":i64,"lo":u64}`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "Halves", from = "Halves")]
pub struct Wide(pub i128);

#[derive(Serialize, Deserialize)]
struct Halves {
    hi: i64,
    lo: u64,
}

impl From<Wide> for Halves {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "takes halves"
    )]
    fn from(wide: Wide) -> Halves {
        Halves {
            hi: (wide.0 >> 64) as i64,
            lo: wide.0 as u64,
        }
    }
}

impl From<Halves> for Wide {
    fn from(halves: Halves) -> Wide {
        Wide((i128::from(halves.hi) << 64) | i128::from(halves.lo))
    }
}

/// Where the schema of a row type comes from.
enum Shape {
    /// The type alone.
    Traced(Vec<FieldRef>),
    /// Only from rows; why.
    FromRows(String),
}

fn trace<R: DeserializeOwned>() -> Result<Shape, ColumnError> {
    let options = options().map_as_struct(false);
    match reading_plain_times(|| Vec::<FieldRef>::from_type::<R>(options)) {
        Ok(fields) if fields.is_empty() => Err(unsupported::<R>("it has no fields")),
        Ok(fields) => match fields.iter().find_map(|field| optional_union(field)) {
            Some(name) => Err(unsupported::<R>(&format!(
                "'{name}' is an Option of an enum with data; make absence a variant of the enum"
            ))),
            None => Ok(Shape::Traced(plain_text(&fields))),
        },
        Err(cause) => Ok(Shape::FromRows(cause.to_string())),
    }
}

fn options() -> TracingOptions {
    TracingOptions::default()
        .allow_null_fields(true)
        .enums_without_data_as_strings(true)
        .from_type_budget(TRACING_BUDGET)
}

fn write<R: Serialize>(fields: &[FieldRef], rows: &[R]) -> Result<RecordBatch, ColumnError> {
    serde_arrow::to_record_batch(fields, &rows).map_err(|cause| ColumnError::Write {
        row: std::any::type_name::<R>(),
        detail: cause.to_string(),
    })
}

fn unsupported<R>(detail: &str) -> ColumnError {
    ColumnError::Unsupported {
        row: std::any::type_name::<R>(),
        detail: detail.to_owned(),
    }
}

/// Columns directly inside a type.
fn children(data_type: &DataType) -> Vec<&FieldRef> {
    match data_type {
        DataType::Struct(fields) => fields.iter().collect(),
        DataType::Union(fields, _) => fields.iter().map(|(_, field)| field).collect(),
        DataType::LargeList(item) | DataType::Map(item, _) => vec![item],
        _ => Vec::new(),
    }
}

/// The name of a column that is an `Option` of a union: Arrow's unions cannot be null.
fn optional_union(field: &Field) -> Option<&str> {
    if field.is_nullable() && matches!(field.data_type(), DataType::Union(..)) {
        return Some(field.name());
    }
    children(field.data_type())
        .into_iter()
        .find_map(|child| optional_union(child))
}

/// Text instead of dictionaries: the batches of one Arrow file would have to share those.
fn plain_text(fields: &[FieldRef]) -> Vec<FieldRef> {
    let plain = |field: &FieldRef| plain_text(std::slice::from_ref(field)).remove(0);
    let rewrite = |field: &FieldRef| {
        let data_type = match field.data_type() {
            DataType::Dictionary(_, value) => value.as_ref().clone(),
            DataType::Struct(inner) => DataType::Struct(plain_text(inner).into()),
            DataType::LargeList(item) => DataType::LargeList(plain(item)),
            DataType::Map(entry, sorted) => DataType::Map(plain(entry), *sorted),
            DataType::Union(inner, mode) => DataType::Union(
                inner.iter().map(|(id, field)| (id, plain(field))).collect(),
                *mode,
            ),
            other => other.clone(),
        };
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    };
    fields.iter().map(rewrite).collect()
}

fn describe_all<'a>(fields: impl IntoIterator<Item = &'a FieldRef>) -> String {
    let mut parts: Vec<String> = fields.into_iter().map(|field| describe(field)).collect();
    parts.sort();
    format!("({})", parts.join(","))
}

/// A column as text that depends on nothing but names and types.
fn describe(field: &Field) -> String {
    let kind = match field.data_type() {
        DataType::Struct(_) => "struct".to_owned(),
        DataType::Union(..) => "union".to_owned(),
        DataType::LargeList(_) => "list".to_owned(),
        DataType::Map(..) => "map".to_owned(),
        simple => format!("{simple:?}"),
    };
    let optional = if field.is_nullable() { "?" } else { "" };
    let inner = children(field.data_type());
    let inner = if inner.is_empty() {
        String::new()
    } else {
        describe_all(inner)
    };
    format!("{:?}:{kind}{optional}{inner}", field.name())
}

pub mod merge;
pub mod share;
#[cfg(test)]
mod tests;

/// The columns of a row type, as far as they follow from the type alone.
pub fn columns_of<R: DeserializeOwned>() -> Option<Vec<FieldRef>> {
    match trace::<R>() {
        Ok(Shape::Traced(fields)) => Some(fields),
        Ok(Shape::FromRows(_)) | Err(_) => None,
    }
}
