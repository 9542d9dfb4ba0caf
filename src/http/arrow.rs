//! Rows as an Arrow IPC stream, batch by batch, with the columns of the CSV.

use std::io;
use std::sync::Arc;

use arrow_array::types::{Decimal128Type, DecimalType};
use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    UInt64Array,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::flat::{Cell, Column, Kind, cells};
use super::render::{Besides, Mark, Shown};

/// Rows of a batch; fewer are in the last one.
const BATCH: usize = 1024;

/// Digits of a column of 128-bit integers.
const DIGITS: u8 = Decimal128Type::MAX_PRECISION;

/// Gathers rows and writes them batch by batch.
pub(super) struct Batches {
    columns: Vec<Column>,
    besides: Besides,
    schema: SchemaRef,
    writer: StreamWriter<Vec<u8>>,
    /// The cells of rows not yet written, column by column.
    gathered: Vec<Vec<Cell>>,
    marks: Vec<Mark>,
}

impl Batches {
    pub(super) fn new(columns: Vec<Column>, besides: Besides) -> io::Result<Batches> {
        let mut fields: Vec<Field> = columns
            .iter()
            .map(|column| Field::new(&column.name, data_type(column.kind), true))
            .collect();
        match besides {
            Besides::Nothing => {}
            Besides::Final => fields.push(Field::new("final", DataType::Boolean, false)),
            Besides::Op => fields.insert(0, Field::new("op", DataType::Utf8, false)),
        }
        let schema = Arc::new(Schema::new(fields));
        let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(failed)?;
        Ok(Batches {
            gathered: vec![Vec::new(); columns.len()],
            columns,
            besides,
            schema,
            writer,
            marks: Vec::new(),
        })
    }

    /// What is written before the first row.
    pub(super) fn begun(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }

    /// Adds a row; gives the batches that it filled.
    pub(super) fn add(&mut self, shown: &Shown) -> io::Result<Vec<u8>> {
        let cells = cells(&shown.row, &self.columns);
        for _ in 0..shown.times {
            for (column, cell) in self.gathered.iter_mut().zip(&cells) {
                column.push(cell.clone());
            }
            self.marks.push(shown.mark);
            if self.marks.len() == BATCH {
                self.flush()?;
            }
        }
        Ok(std::mem::take(self.writer.get_mut()))
    }

    /// Gives the last batch and the mark of the end.
    pub(super) fn end(&mut self) -> io::Result<Vec<u8>> {
        if !self.marks.is_empty() {
            self.flush()?;
        }
        self.writer.finish().map_err(failed)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    fn flush(&mut self) -> io::Result<()> {
        let marks = std::mem::take(&mut self.marks);
        let mut arrays = Vec::with_capacity(self.columns.len() + 1);
        for (column, cells) in self.columns.iter().zip(&mut self.gathered) {
            arrays.push(array(column, &std::mem::take(cells))?);
        }
        match self.besides {
            Besides::Nothing => {}
            Besides::Final => {
                let is_final = marks.iter().map(|mark| Some(*mark == Mark::Final(true)));
                arrays.push(Arc::new(is_final.collect::<BooleanArray>()));
            }
            Besides::Op => {
                let ops = marks.iter().map(|mark| Some(mark.op().unwrap_or("+")));
                arrays.insert(0, Arc::new(ops.collect::<StringArray>()));
            }
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(failed)?;
        self.writer.write(&batch).map_err(failed)
    }
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Text | Kind::Json => DataType::Utf8,
        Kind::Integer => DataType::Int64,
        Kind::Unsigned => DataType::UInt64,
        Kind::Wide => DataType::Decimal128(DIGITS, 0),
        Kind::Number => DataType::Float64,
        Kind::Bool => DataType::Boolean,
    }
}

fn array(column: &Column, cells: &[Cell]) -> io::Result<ArrayRef> {
    Ok(match column.kind {
        Kind::Text | Kind::Json => Arc::new(cells.iter().collect::<StringArray>()),
        Kind::Integer => Arc::new(Int64Array::from(parsed::<i64>(column, cells)?)),
        Kind::Unsigned => Arc::new(UInt64Array::from(parsed::<u64>(column, cells)?)),
        Kind::Number => Arc::new(Float64Array::from(parsed::<f64>(column, cells)?)),
        Kind::Bool => Arc::new(BooleanArray::from(parsed::<bool>(column, cells)?)),
        Kind::Wide => {
            let array = Decimal128Array::from(parsed::<i128>(column, cells)?);
            let array = array.with_precision_and_scale(DIGITS, 0).map_err(failed)?;
            array.validate_decimal_precision(DIGITS).map_err(failed)?;
            Arc::new(array)
        }
    })
}

/// The cells as values. One that is none ends the answer: a wrong value would be worse.
fn parsed<T: std::str::FromStr>(column: &Column, cells: &[Cell]) -> io::Result<Vec<Option<T>>> {
    let parse = |cell: &Cell| {
        let Some(text) = cell else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            let name = &column.name;
            io::Error::other(format!(
                "column '{name}': {text} does not fit: ask for JSON"
            ))
        })
    };
    cells.iter().map(parse).collect()
}

fn failed(error: ArrowError) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use arrow_ipc::reader::StreamReader;
    use serde_json::json;

    use super::*;
    use crate::http::flat::columns;
    use crate::row::Row;
    use crate::view::QuerySpec;

    fn written(value: i128) -> io::Result<Vec<u8>> {
        let spec = QuerySpec {
            key_schema: json!({"type": "array", "prefixItems": [
                {"type": "string"}, {"type": "integer", "format": "uint64"},
            ]}),
            value_schema: json!({"type": "integer", "format": "int128"}),
            ..QuerySpec::default()
        };
        let mut batches = Batches::new(columns(&spec), Besides::Final)?;
        let mut bytes = batches.begun();
        let row = Row::new(&("a", u64::MAX), &value, None).unwrap();
        let shown = Shown {
            row,
            times: 1025,
            mark: Mark::Final(true),
        };
        bytes.extend(batches.add(&shown)?);
        bytes.extend(batches.end()?);
        Ok(bytes)
    }

    #[test]
    fn any_arrow_reader_reads_the_rows() {
        let value = 10_i128.pow(38) - 1;
        let bytes = written(value).unwrap();
        let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
        let names: Vec<_> = reader
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        assert_eq!(names, ["key.0", "key.1", "value", "final"]);
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!((batches[0].num_rows(), batches[1].num_rows()), (1024, 1));
        let last = &batches[1];
        let text = last
            .column(0)
            .as_any()
            .downcast_ref::<StringArray>()
            .unwrap();
        let number = last
            .column(1)
            .as_any()
            .downcast_ref::<UInt64Array>()
            .unwrap();
        let wide = last
            .column(2)
            .as_any()
            .downcast_ref::<Decimal128Array>()
            .unwrap();
        let is_final = last
            .column(3)
            .as_any()
            .downcast_ref::<BooleanArray>()
            .unwrap();
        assert_eq!((text.value(0), number.value(0)), ("a", u64::MAX));
        assert_eq!((wide.value(0), is_final.value(0)), (value, true));
    }

    #[test]
    fn a_number_that_does_not_fit_ends_the_answer() {
        let error = written(i128::MAX).unwrap_err().to_string();
        assert!(error.contains("too large"), "{error}");
    }
}
