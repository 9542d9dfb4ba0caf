//! A Protobuf schema: its messages, compiled from the text, and which of them a record is.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::prost::Message;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{FileDescriptor, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::WriterSchema;
use super::fault::Fault;
use super::input::Input;

/// The name the schema itself is compiled under; no import is called so.
const RECORD: &str = "the schema";

/// What registries and their serializers know without being told. Google's own are elsewhere.
const KNOWN: [(&str, &str); 2] = [
    ("confluent/meta.proto", include_str!("confluent/meta.proto")),
    (
        "confluent/type/decimal.proto",
        include_str!("confluent/decimal.proto"),
    ),
];

/// The messages of a schema.
pub struct Messages {
    file: FileDescriptor,
    /// The first of them, which nearly every record is.
    first: MessageDescriptor,
    /// Whether the schema writes the entries of its maps down as messages.
    has_entries: bool,
}

impl Messages {
    /// Compiles a schema and those it imports.
    pub fn new(schema: &WriterSchema) -> Result<Messages, String> {
        let known = KNOWN.iter().map(|(name, text)| (*name, *text));
        let imports = schema.references.iter();
        let imports = imports.map(|(name, text)| (name.as_str(), text.as_str()));
        let mut sources = vec![(RECORD.to_owned(), schema.text.clone())];
        sources.extend(
            imports
                .chain(known)
                .map(|(name, text)| (name.to_owned(), text.to_owned())),
        );
        let mut resolver = ChainFileResolver::new();
        resolver.add(Sources(sources));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        let compiled = compiler.open_file(RECORD);
        compiled.map_err(|error| format!("the Protobuf schema cannot be used: {error}"))?;
        let file = compiler.descriptor_pool().get_file_by_name(RECORD);
        let file = file.ok_or("the Protobuf schema is empty")?;
        let first = file.messages().next();
        let first = first.ok_or("the Protobuf schema has no message")?;
        Ok(Messages {
            file,
            first,
            has_entries: is_compiled(&schema.text) || schema.text.contains("map_entry"),
        })
    }

    /// The message a record is, and its bytes. In front of these are a count and as many places:
    /// of the message in the file, then of the one in that message. A single 0 is the first.
    pub fn split<'a>(&self, data: &'a [u8]) -> Result<(MessageDescriptor, &'a [u8]), Fault> {
        if let [0, message @ ..] = data {
            return Ok((self.first.clone(), message));
        }
        let mut input = Input::new(data);
        let depth = input.long()?;
        if !(1..=100).contains(&depth) {
            return Err(Fault::new(format!("message indexes {depth} deep")));
        }
        let mut message = nth(self.file.messages(), input.long()?)?;
        for _ in 1..depth {
            message = self.child(&message, input.long()?)?;
        }
        let left = input.left();
        Ok((message, input.take(left)?))
    }

    /// A message inside of another by its place. Those that serializers compile are in the order
    /// of the compiler, which has an entry for each map. A serializer that only parses counts what
    /// is written: an entry if the schema was made from compiled ones, and none otherwise.
    fn child(&self, parent: &MessageDescriptor, place: i64) -> Result<MessageDescriptor, Fault> {
        let is_written = |child: &MessageDescriptor| self.has_entries || !child.is_map_entry();
        nth(parent.child_messages().filter(is_written), place)
            .or_else(|_| nth(parent.child_messages(), place))
    }
}

fn nth(
    mut messages: impl Iterator<Item = MessageDescriptor>,
    place: i64,
) -> Result<MessageDescriptor, Fault> {
    let message = usize::try_from(place)
        .ok()
        .and_then(|place| messages.nth(place));
    message.ok_or_else(|| Fault::new(format!("message index {place}, which the schema lacks")))
}

/// Whether a schema is a compiled one in Base64, as some serializers register them and not every
/// registry turns into text. No text is without any mark of punctuation.
fn is_compiled(text: &str) -> bool {
    !text.contains([';', '{']) && BASE64_STANDARD.decode(text).is_ok()
}

fn compiled(name: &str, text: &str) -> Result<File, protox::Error> {
    let bytes = BASE64_STANDARD.decode(text).map_err(protox::Error::new)?;
    let mut file = FileDescriptorProto::decode(&*bytes).map_err(protox::Error::new)?;
    // By what it is imported as: its own name is that on the machine it was compiled on.
    file.name = Some(name.to_owned());
    Ok(File::from_file_descriptor_proto(file))
}

/// Files in memory: name and text.
struct Sources(Vec<(String, String)>);

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, text)) if is_compiled(text) => compiled(name, text),
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}
