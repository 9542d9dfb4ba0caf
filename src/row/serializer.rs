//! How serde drives the row encoding: what each kind of value of serde's model is in JSON.

use serde::ser::{self, Serialize, Serializer};

use super::EncodeError;
use super::order::Encoder;

type Done = Result<(), EncodeError>;

macro_rules! integers {
    ($($name:ident: $int:ty, $negative:expr, $magnitude:expr;)*) => {
        $(fn $name(self, n: $int) -> Done {
            self.integer($negative(n), $magnitude(n).into());
            Ok(())
        })*
    };
}

const fn never<T: Copy>(_: T) -> bool {
    false
}

impl<'a> Serializer for &'a mut Encoder {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = &'a mut Encoder;
    type SerializeTuple = &'a mut Encoder;
    type SerializeTupleStruct = &'a mut Encoder;
    type SerializeTupleVariant = Variant<'a>;
    type SerializeMap = &'a mut Encoder;
    type SerializeStruct = &'a mut Encoder;
    type SerializeStructVariant = Variant<'a>;

    integers! {
        serialize_i8: i8, i8::is_negative, i8::unsigned_abs;
        serialize_i16: i16, i16::is_negative, i16::unsigned_abs;
        serialize_i32: i32, i32::is_negative, i32::unsigned_abs;
        serialize_i64: i64, i64::is_negative, i64::unsigned_abs;
        serialize_i128: i128, i128::is_negative, i128::unsigned_abs;
        serialize_u8: u8, never, u8::from;
        serialize_u16: u16, never, u16::from;
        serialize_u32: u32, never, u32::from;
        serialize_u64: u64, never, u64::from;
        serialize_u128: u128, never, u128::from;
    }

    fn serialize_bool(self, value: bool) -> Done {
        self.bool(value);
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Done {
        // JSON shows 0.1, not the 0.10000000149011612 that widening gives.
        self.float(value.to_string().parse().unwrap_or(f64::NAN));
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Done {
        self.float(value);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Done {
        self.text(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Done {
        self.text(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Done {
        value.serialize(self)
    }

    fn serialize_none(self) -> Done {
        self.null();
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        self.null();
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Done {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Done {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        self.open_object();
        self.text(variant);
        value.serialize(&mut *self)?;
        self.close();
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, EncodeError> {
        self.open_sequence();
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, EncodeError> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Variant<'a>, EncodeError> {
        self.open_object();
        self.text(variant);
        self.open_sequence();
        Ok(Variant(self))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, EncodeError> {
        self.open_object();
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        self.serialize_map(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Variant<'a>, EncodeError> {
        self.open_object();
        self.text(variant);
        self.open_object();
        Ok(Variant(self))
    }
}

macro_rules! parts {
    ($($as:ident: $part:ident),*) => {
        $(impl ser::$as for &mut Encoder {
            type Ok = ();
            type Error = EncodeError;

            fn $part<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                value.serialize(&mut **self)
            }

            fn end(self) -> Done {
                self.close();
                Ok(())
            }
        })*
    };
}

parts! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field
}

impl ser::SerializeMap for &mut Encoder {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.name(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(&mut **self)
    }

    fn end(self) -> Done {
        self.close();
        Ok(())
    }
}

impl ser::SerializeStruct for &mut Encoder {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
        self.text(name);
        value.serialize(&mut **self)
    }

    fn end(self) -> Done {
        self.close();
        Ok(())
    }
}

/// An enum variant with several parts: a sequence or an object, within the object that names it.
pub(crate) struct Variant<'a>(&'a mut Encoder);

impl ser::SerializeTupleVariant for Variant<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(&mut *self.0)
    }

    fn end(self) -> Done {
        self.0.close();
        self.0.close();
        Ok(())
    }
}

impl ser::SerializeStructVariant for Variant<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
        self.0.text(name);
        value.serialize(&mut *self.0)
    }

    fn end(self) -> Done {
        self.0.close();
        self.0.close();
        Ok(())
    }
}
