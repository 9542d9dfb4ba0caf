//! What is wrong with a record, and in which of its fields.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

/// Why a record cannot be read: a sentence, and the path to the field it is about.
#[derive(Debug)]
pub struct Fault {
    /// Names from the outermost field inwards, joined by dots; empty for the record itself.
    path: String,
    what: String,
}

impl Fault {
    /// A fault of the part that is being read.
    pub fn new(what: impl Into<String>) -> Fault {
        Fault {
            path: String::new(),
            what: what.into(),
        }
    }

    /// The same fault, seen from the record that has the part as a field.
    pub fn within(mut self, field: &str) -> Fault {
        if !self.path.is_empty() {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, field);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "field '{}': {}", self.path, self.what)
        }
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(what: T) -> Fault {
        Fault::new(what.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        match found {
            Unexpected::Unit => Fault::new(format!("null, expected {expected}")),
            other => Fault::new(format!("{other}, expected {expected}")),
        }
    }
}

/// A float as JSON could say it: what is no number would spoil whatever it is added to.
pub fn finite(n: f64) -> Result<f64, Fault> {
    if n.is_finite() {
        return Ok(n);
    }
    Err(Fault::new(format!("{n} is not a number")))
}
