//! The commands of one WebSocket message.

use std::ops::Range;

use super::{envelope::Envelope, template::CommandReader};
use crate::{
    command::Publish,
    dialect::template::Template,
    error::ReplyError,
    json::{self, Document, Element, JsonError, Object, Scanner},
    limits::BATCH,
};

/// The commands of one message: a text with an object or an array of objects, or a binary publication.
pub struct Batch<'s, 'a>(Commands<'s, 'a>);

enum Commands<'s, 'a> {
    One(Object<'s, 'a>, &'s mut Template),
    Several(json::Array<'s, 'a>),
    /// An element of an array that is no object.
    NotAnObject,
    /// An envelope, and the payload that follows it.
    Binary(Object<'s, 'a>, &'a [u8]),
}

impl<'s, 'a> Batch<'s, 'a> {
    /// Takes a text apart. Whether each command makes sense shows only when it is asked for.
    #[inline]
    pub fn read(reader: &'s mut CommandReader, text: &'a str) -> Result<Self, ReplyError> {
        let CommandReader { scanner, last } = reader;
        match scan(scanner, text)? {
            Document::Object(object) => Ok(Self(Commands::One(object, last))),
            Document::Array(array) if array.len() > BATCH => Err(ReplyError::BatchTooLong),
            Document::Array(array) => Ok(Self(Commands::Several(array))),
            Document::Other(_) => Err(ReplyError::InvalidCommand(
                "A frame is a command, which is an object, or an array of commands.",
            )),
        }
    }

    /// Takes one element apart of an array that was read before.
    pub fn read_element(reader: &'s mut CommandReader, text: &'a str) -> Result<Self, ReplyError> {
        if text.starts_with('{') { Self::read(reader, text) } else { Ok(Self(Commands::NotAnObject)) }
    }

    /// Where each command stands in its text, if that is an array.
    pub fn spans(&self) -> Option<Box<[Range<u32>]>> {
        match &self.0 {
            Commands::Several(array) => Some(array.spans().collect()),
            _ => None,
        }
    }

    /// Takes a binary message apart: length of the envelope (2 bytes, big-endian), envelope, payload.
    pub fn read_binary(reader: &'s mut CommandReader, message: &'a [u8]) -> Result<Self, ReplyError> {
        let (length, rest) = message.split_first_chunk::<2>().ok_or(ReplyError::InvalidBinary)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (envelope, payload) = rest.split_at_checked(length).ok_or(ReplyError::InvalidBinary)?;
        let envelope = std::str::from_utf8(envelope).map_err(|_| ReplyError::MalformedJson)?;
        match scan(&mut reader.scanner, envelope)? {
            Document::Object(object) => Ok(Self(Commands::Binary(object, payload))),
            _ => Err(ReplyError::InvalidBinary),
        }
    }

    /// Notes that `publish` is what the only command, `envelope`, says.
    pub fn record_template(&mut self, envelope: &Envelope<'_, '_>, publish: &Publish<'_>) {
        if let Commands::One(_, last) = &mut self.0 {
            envelope.record(last, publish);
        }
    }

    /// Whether it is an array.
    pub fn is_list(&self) -> bool {
        matches!(self.0, Commands::Several(_))
    }

    /// The object, if it is one.
    pub fn object(&self) -> Option<Object<'s, 'a>> {
        match &self.0 {
            Commands::One(object, _) | Commands::Binary(object, _) => Some(*object),
            Commands::Several(_) | Commands::NotAnObject => None,
        }
    }

    /// Number of commands.
    pub fn len(&self) -> usize {
        match &self.0 {
            Commands::One(..) | Commands::Binary(..) | Commands::NotAnObject => 1,
            Commands::Several(array) => array.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The commands, in order.
    pub fn envelopes(&self) -> impl Iterator<Item = Envelope<'s, 'a>> {
        (0..self.len()).map(|place| self.envelope(place))
    }

    /// The command at this place, from 0.
    ///
    /// # Panics
    /// If there are not that many.
    #[inline]
    pub fn envelope(&self, place: usize) -> Envelope<'s, 'a> {
        match &self.0 {
            Commands::One(object, _) => Envelope::read(*object),
            Commands::Binary(object, payload) => Envelope::read_binary(*object, payload),
            Commands::NotAnObject => Envelope::not_an_object(),
            Commands::Several(array) => match array.element(place) {
                Element::Object(object) => Envelope::read(object),
                Element::Other(_) => Envelope::not_an_object(),
            },
        }
    }
}

fn scan<'s, 'a>(scanner: &'s mut Scanner, text: &'a str) -> Result<Document<'s, 'a>, ReplyError> {
    scanner.scan(text).map_err(|error| match error {
        JsonError::TooDeep { .. } => ReplyError::TooDeep,
        JsonError::TooManyElements { .. } => ReplyError::BatchTooLong,
        JsonError::DuplicateKey { .. } => ReplyError::InvalidCommand("A member appears twice."),
        JsonError::TooManyMembers { .. } => ReplyError::InvalidCommand("A command has too many members."),
        _ => ReplyError::MalformedJson,
    })
}
