//! What owned publications show, and what they cost.

use std::sync::Arc;

use super::*;
use crate::id::WorkerId;

fn session(slot: u32) -> SessionId {
    SessionId::new(WorkerId(0), crate::id::SessionSlot(slot), [0; 9])
}

#[test]
fn owned_publication_shows_what_it_was_made_from() {
    let mut ids = crate::id::IdGenerator::new(1);
    let audience = Audience::except(session(1));
    let publication = Publication {
        offset: Some(4),
        audience: &audience,
        ..Publication::message(ids.message_id(1), "é", Payload::Binary(&[0, 255]))
    };
    let owned = OwnedPublication::from(publication);
    assert_eq!(owned.view().event(), "é");
    assert_eq!(owned.view().payload(), Payload::Binary(&[0, 255]));
    assert_eq!(owned.view().audience.except_session, Some(session(1)));
}

#[test]
fn a_change_stands_for_the_message_it_changed() {
    let mut ids = crate::id::IdGenerator::new(1);
    let audience = Audience { only_users: Some([Box::from("luke")].into()), ..Audience::except(session(1)) };
    let profile: Arc<str> = "{}".into();
    let sender = Sender { session: session(1), user: Some("leia"), profile: Some(&profile), shown: true };
    let message = OwnedPublication::from(Publication {
        offset: Some(4),
        audience: &audience,
        sender: Some(sender),
        kept: true,
        ..Publication::message(ids.message_id(1), "chat", Payload::Json("1"))
    });
    let edit = message.message().changed(9, Some(Payload::Json("2")), None, &[], 77);
    let view = edit.view();
    assert_eq!((view.kind(), view.offset, view.event()), (Kind::Edit, Some(9), "chat"));
    assert_eq!((view.payload(), view.edited_ms, view.id), (Payload::Json("2"), Some(77), message.id()));
    assert!(view.audience.admits(session(1), Some("luke")) && !view.audience.admits(session(2), None));
    let now = edit.message();
    assert_eq!((now.kind(), now.offset, now.event()), (Kind::Message, Some(4), "chat"));
    assert_eq!((now.sender, now.kept), (Some(sender), true));
    let gone = now.changed(12, None, None, &[], 78);
    assert_eq!((gone.view().kind(), gone.view().event(), gone.is_deletion()), (Kind::Delete, "", true));
    assert_eq!(gone.message().offset, Some(4));
}

#[test]
fn remembering_costs_the_text_and_a_small_constant() {
    let id = crate::id::IdGenerator::new(1).message_id(1);
    let plain = OwnedPublication::from(Publication::message(id, "chat", Payload::Json("1234")));
    assert!(plain.bytes() <= 8 + 104, "{}", plain.bytes());
}

#[test]
fn a_notice_shares_the_card_it_is_about() {
    let id = crate::id::IdGenerator::new(1).message_id(1);
    let card = Arc::new(IdentityCard { id: session(1), user: Some("leia".into()), profile: None });
    let user: Arc<str> = "leia".into();
    for body in [Body::MemberJoined(&card), Body::MemberLeft(&card), Body::MemberUpdated(&card)] {
        let owned = OwnedPublication::from(Publication::new(id, body));
        assert_eq!(owned.kind(), body.kind());
        let (Body::MemberJoined(seen) | Body::MemberLeft(seen) | Body::MemberUpdated(seen)) =
            owned.view().body
        else {
            panic!("{owned:?} is about a member")
        };
        assert!(Arc::ptr_eq(seen, &card));
    }
    let user = Arc::new(UserCard { user, state: None, changed: Vec::new(), users: None });
    for body in [Body::UserJoined(&user), Body::UserLeft(&user), Body::UserUpdated(&user)] {
        let owned = OwnedPublication::from(Publication::new(id, body));
        assert_eq!(owned.kind(), body.kind());
        assert!(!owned.view().body.is_message() && owned.message_offset() == 0);
    }
    assert_eq!((Arc::strong_count(&card), Arc::strong_count(&user)), (1, 1));
}
