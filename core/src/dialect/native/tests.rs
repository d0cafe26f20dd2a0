//! What a reader reads, command by command.

use proptest::prelude::*;

use super::*;
use crate::{command::Command, error::ReplyError};

/// What `reader` reads in a frame, command by command.
fn commands(reader: &mut CommandReader, frame: &str) -> Vec<String> {
    if let Some(repeated) = reader.match_template(frame) {
        return vec![format!(
            "None {:?}",
            Ok::<_, ReplyError>(Command::Publish(reader.publish_from(repeated)))
        )];
    }
    let mut batch = match Batch::read(reader, frame) {
        Ok(batch) => batch,
        Err(error) => return vec![format!("{error:?}")],
    };
    let mut commands = Vec::new();
    for place in 0..batch.len() {
        let envelope = batch.envelope(place);
        let command = envelope.command();
        if let Ok(Command::Publish(publish)) = &command {
            batch.record_template(&envelope, publish);
        }
        commands.push(format!("{:?} {command:?}", envelope.id()));
    }
    commands
}

const SEND: &str = r#"{"type":"send","channel":"c","event":"e","message":"#;

#[test]
fn a_publication_that_differs_in_its_message_alone_is_known_again() {
    let mut reader = CommandReader::default();
    let seen = |reader: &mut CommandReader, text: &str| {
        let known = reader.match_template(text).is_some();
        (known, commands(reader, text))
    };
    assert!(!seen(&mut reader, &format!("{SEND}1}}")).0);
    let (known, read) = seen(&mut reader, &format!("{SEND}[2,\"\\\"}}\"]}}"));
    assert!(known && read[0].contains(r#"[2,\"\\\"}\"]"#), "{read:?}");
    for other in ["2", "{\"a\":1}", "2,\"id\":7}", "2} x", "2}}", "", "nul}", "\"}"] {
        assert!(seen(&mut reader, &format!("{SEND}1}}")).1.len() == 1);
        assert!(!seen(&mut reader, &format!("{SEND}{other}")).0, "{other}");
    }
}

#[test]
fn what_has_an_id_an_audience_or_members_behind_its_message_is_always_read() {
    for frame in [
        r#"{"id":1,"type":"send","channel":"c","event":"e","message":1}"#,
        r#"{"to_users":["u"],"type":"send","channel":"c","event":"e","message":1}"#,
        r#"{"type":"send","channel":"c","message":1,"event":"e"}"#,
        r#"{"type":"send","channel":"c","event":"e"}"#,
        r#"{"type":"join","channel":"c","event":"e","message":1}"#,
        r#"[{"type":"send","channel":"c","event":"e","message":1}]"#,
    ] {
        let mut reader = CommandReader::default();
        commands(&mut reader, frame);
        assert!(reader.match_template(frame).is_none(), "{frame}");
    }
}

proptest! {
    /// What a reader has read before changes nothing.
    #[test]
    fn a_used_reader_reads_as_a_new_one(
        frames in prop::collection::vec(
            (
                prop::sample::select(vec![
                    r#"{"type":"send","channel":"c","event":"e","message":"#,
                    r#"{"type":"send","channel":"\u0063","event":"\"","echo":false,"message":"#,
                    r#"{"type":"broadcast","event":"e","no_history":true,"message":"#,
                    r#"{"id":7,"type":"send","channel":"c","event":"e","message":"#,
                    r#"{"type":"send","event":"e","message":"#,
                    r#"{"type":"join","channel":"c","echo":"#,
                    r#"[{"type":"send","channel":"c","event":"e","message":"#,
                    r#"{"message":"#,
                    "",
                ]),
                prop::sample::select(vec![
                    "1", "null", "true", r#""a""#, r#""\u0061\n""#, r#""\ud800""#, "[{}]", " 2 ", "nul", "",
                    r#"1,"channel":"d""#, r#"1,"event":"f""#, r#"1,"id":3"#, r#"1}{"#,
                ]),
                prop::sample::select(vec!["}", "}}", "}]", " } ", "", "}x"]),
            ),
            1..20,
        ),
    ) {
        let mut used = CommandReader::default();
        for (head, value, tail) in frames {
            let frame = format!("{head}{value}{tail}");
            prop_assert_eq!(commands(&mut used, &frame), commands(&mut CommandReader::default(), &frame), "{}", frame);
        }
    }
}
