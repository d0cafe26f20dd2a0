//! Of the whole memory: what it shows, what it forgets, and what it costs.

use proptest::prelude::*;

use super::*;
use crate::{
    id::{IdGenerator, SessionId, WorkerId},
    publication::{Audience, Body, Kind, Sender, WithoutUser},
};

mod model;

const ALL: Bounds = Bounds { messages: usize::MAX, bytes: usize::MAX };
const NOBODY: Viewer = Viewer::User(None);
const EVERYONE: Audience = Audience {
    except_session: None,
    only_session: None,
    only_users: None,
    except_users: None,
    without_user: WithoutUser::AsOthers,
};

fn limits(messages: u32) -> HistoryLimits {
    HistoryLimits { messages, bytes: u32::MAX, age_ms: 1000 }
}

/// A message with the payload `0`.
fn message<'a>(ids: &mut IdGenerator, now_ms: u64, offset: u64, audience: &'a Audience) -> Publication<'a> {
    let id = ids.message_id(now_ms);
    let publication = Publication::message(id, "e", Payload::Json("0"));
    Publication { offset: Some(offset), audience, kept: true, ..publication }
}

/// A message's body with this payload.
fn body(payload: Payload<'_>) -> Body<'_> {
    Body::Message { event: "e", payload }
}

/// Remembers a message of an app that has room.
fn push(history: &mut History, message: &Publication<'_>, now_ms: u64) {
    history.push(message, now_ms, |_| usize::MAX);
}

/// Remembers messages of these sizes at 1000 ms, with offsets from 1.
fn fill(history: &mut History, sizes: impl IntoIterator<Item = usize>) {
    let mut ids = IdGenerator::new(1);
    for (size, offset) in sizes.into_iter().zip(1..) {
        let payload = "x".repeat(size);
        let message = message(&mut ids, 1000, offset, &EVERYONE);
        push(history, &Publication { body: body(Payload::Json(&payload)), ..message }, 1000);
    }
}

/// Lets only the oldest message go.
fn forget_one(history: &mut History) {
    while history.trim(history.bytes() - 1) == 0 {}
}

fn offsets(messages: &[HistoryItem]) -> Vec<u64> {
    messages.iter().map(HistoryItem::offset).collect()
}

/// Five messages at 1000 ms, with offsets from 1.
fn five() -> (History, Vec<MessageId>) {
    let (mut history, mut ids) = (History::new(limits(5), 0), IdGenerator::new(1));
    let ids = (1..=5).map(|offset| {
        let message = message(&mut ids, 1000, offset, &EVERYONE);
        push(&mut history, &message, 1000);
        message.id
    });
    let ids = ids.collect();
    (history, ids)
}

fn change(history: &mut History, id: MessageId, offset: u64, payload: Option<&str>) {
    let payload = payload.map(Payload::Json);
    let change = history.find(id).expect("it is remembered").changed(offset, payload, None, &[], 2000);
    history.change(Arc::new(change));
}

#[test]
fn pages_go_both_ways_and_know_where_they_go_on() {
    let (history, _) = five();
    let two = Bounds { messages: 2, ..ALL };
    let page = history.page(PageStart::After(0), two, &NOBODY);
    assert_eq!((offsets(&page.messages), page.next), (vec![1, 2], Some(2)));
    let page = history.page(PageStart::After(2), two, &NOBODY);
    assert_eq!((offsets(&page.messages), page.next), (vec![3, 4], Some(4)));
    let page = history.page(PageStart::After(4), two, &NOBODY);
    assert_eq!((offsets(&page.messages), page.next), (vec![5], None));
    let page = history.page(PageStart::Before(u64::MAX), two, &NOBODY);
    assert_eq!((offsets(&page.messages), page.next), (vec![5, 4], Some(4)));
    let page = history.page(PageStart::Before(2), two, &NOBODY);
    assert_eq!((offsets(&page.messages), page.next), (vec![1], None));
    let one = Bounds { bytes: 1, ..ALL };
    assert_eq!(
        offsets(&history.page(PageStart::After(0), one, &NOBODY).messages),
        [1],
        "a page is never empty"
    );
}

#[test]
fn what_is_too_old_or_too_much_is_forgotten_and_recovery_knows() {
    let (mut history, _) = five();
    let mut ids = IdGenerator::new(2);
    push(&mut history, &message(&mut ids, 1500, 6, &EVERYONE), 1500);
    assert!(history.catch_up(0, ALL, &NOBODY).is_none());
    assert_eq!(offsets(&history.catch_up(1, ALL, &NOBODY).expect("all is there")), [2, 3, 4, 5, 6]);
    history.expire(2001);
    assert_eq!(offsets(&history.page(PageStart::After(0), ALL, &NOBODY).messages), [6]);
    assert!(history.catch_up(4, ALL, &NOBODY).is_none());
    assert_eq!(history.trim(0), 1);
    assert_eq!(history.bytes(), EMPTY_BYTES);
    let missed = history.catch_up(6, ALL, &NOBODY).expect("nothing is missing");
    assert!(missed.is_empty());
}

#[test]
fn a_memory_is_over_when_nobody_can_need_it() {
    let (mut history, _) = five();
    history.touch(1500);
    history.expire(2001);
    assert!(history.entries.is_empty() && !history.is_over(2001) && !history.is_over(2500));
    assert!(history.is_over(2501));
    history.touch(3000);
    assert!(!history.is_over(3000));
    history.trim(EMPTY_BYTES - 1);
    assert!(history.is_over(3000), "there is no room for it");
}

#[test]
fn a_change_is_shown_in_pages_and_reaches_whoever_missed_it() {
    let (mut history, ids) = five();
    change(&mut history, ids[1], 6, Some("1"));
    change(&mut history, ids[1], 7, Some("2"));
    change(&mut history, ids[3], 8, None);
    let page = history.page(PageStart::After(0), ALL, &NOBODY);
    assert_eq!(offsets(&page.messages), [1, 2, 3, 5]);
    let edited = page.messages[1].view();
    assert_eq!(
        (edited.kind(), edited.payload(), edited.edited_ms),
        (Kind::Message, Payload::Json("2"), Some(2000))
    );
    let missed = history.catch_up(3, ALL, &NOBODY).expect("all is there");
    let kinds: Vec<Kind> = missed.iter().map(|missed| missed.view().kind()).collect();
    assert_eq!(offsets(&missed), [5, 7], "the deleted message was never seen");
    assert_eq!(kinds, [Kind::Message, Kind::Edit]);
    let missed = history.catch_up(7, ALL, &NOBODY).expect("all is there");
    assert_eq!((offsets(&missed), missed[0].view().kind()), (vec![8], Kind::Delete));
    // Who was there until 6 has message 2 as it was then; if that is forgotten, so is its change.
    forget_one(&mut history);
    forget_one(&mut history);
    assert!(history.catch_up(6, ALL, &NOBODY).is_none());
    assert!(history.catch_up(7, ALL, &NOBODY).is_some());
}

#[test]
fn a_private_message_is_shown_to_those_it_is_for() {
    let (mut history, _) = five();
    let luke: Arc<[Box<str>]> = [Box::from("luke")].into();
    let audience = Audience { only_users: Some(luke.clone()), ..Audience::default() };
    let mut ids = IdGenerator::new(2);
    push(&mut history, &message(&mut ids, 1000, 6, &audience), 1000);
    let audience = Audience { except_users: Some(luke), ..Audience::default() };
    push(&mut history, &message(&mut ids, 1000, 7, &audience), 1000);
    for (reader, seen) in [
        (Viewer::BackEnd, vec![6, 7]),
        (Viewer::User(Some("luke".into())), vec![6]),
        (Viewer::User(Some("leia".into())), vec![7]),
        (NOBODY, vec![7]),
    ] {
        assert_eq!(offsets(&history.catch_up(5, ALL, &reader).expect("all is there")), seen);
        assert_eq!(offsets(&history.page(PageStart::After(5), ALL, &reader).messages), seen);
    }
}

#[test]
fn more_than_allowed_at_once_cannot_be_recovered() {
    let (history, _) = five();
    assert!(history.catch_up(1, Bounds { messages: 4, ..ALL }, &NOBODY).is_some());
    assert!(history.catch_up(0, Bounds { messages: 4, ..ALL }, &NOBODY).is_none());
    assert!(history.catch_up(0, Bounds { bytes: 100, ..ALL }, &NOBODY).is_none());
}

#[test]
fn a_full_memory_that_forgets_as_much_as_it_learns_does_not_grow() {
    let mut history = History::new(limits(100), 0);
    fill(&mut history, [70; 600]);
    let bytes = history.bytes();
    assert!(bytes < EMPTY_BYTES + 100 * (70 + 70), "{bytes}");
    let mut ids = IdGenerator::new(2);
    let payload = "x".repeat(70);
    for offset in 601..1000 {
        let message = message(&mut ids, 1000, offset, &EVERYONE);
        let asked = |_| unreachable!("it does not grow");
        history.push(&Publication { body: body(Payload::Json(&payload)), ..message }, 1000, asked);
        assert_eq!((history.bytes(), history.entries.len()), (bytes, 100));
    }
}

#[test]
fn what_is_forgotten_is_given_back() {
    let mut history = History::new(limits(65_536), 0);
    fill(&mut history, [100; 10_000]);
    let full = history.bytes();
    assert!(full < EMPTY_BYTES + 10_000 * (100 + 60), "{full}");
    for part in [2, 10, 100, 1000] {
        history.trim(full / part);
        assert!(history.bytes() <= full / part);
        let left = history.entries.len();
        assert!(left * 140 + 2 * 20_000 >= full / part, "{left} of them are left in {} bytes", full / part);
    }
    history.expire(2500);
    assert_eq!(history.bytes(), EMPTY_BYTES);
}

#[test]
fn a_memory_that_has_become_short_does_not_keep_much_room() {
    let mut history = History::new(limits(65_536), 0);
    fill(&mut history, [100; 10_000]);
    let mut ids = IdGenerator::new(2);
    push(&mut history, &message(&mut ids, 2000, 10_001, &EVERYONE), 2000);
    history.expire(2500);
    assert_eq!(history.entries.len(), 1);
    assert!(history.bytes() < EMPTY_BYTES + 40_000, "{}", history.bytes());
}

#[test]
fn a_message_that_is_larger_than_all_that_may_be_is_not_remembered() {
    let mut history = History::new(HistoryLimits { bytes: 4096, ..limits(100) }, 0);
    fill(&mut history, [10, 10, 5000, 10]);
    assert_eq!(offsets(&history.page(PageStart::After(0), ALL, &NOBODY).messages), [4]);
    assert!(history.catch_up(2, ALL, &NOBODY).is_none());
    assert!(history.catch_up(3, ALL, &NOBODY).is_some());
}

#[test]
fn in_a_crowded_app_a_memory_does_not_grow() {
    for size in [10, 1000, 3000] {
        let mut history = History::new(limits(1000), 0);
        fill(&mut history, vec![size; 40]);
        let bytes = history.bytes();
        let (mut ids, mut forgotten) = (IdGenerator::new(2), 0);
        for offset in 41..200 {
            let payload = "x".repeat(size);
            let message = message(&mut ids, 1000, offset, &EVERYONE);
            let message = Publication { body: body(Payload::Json(&payload)), ..message };
            forgotten += history.push(&message, 1000, |_| bytes).forgotten;
            assert!(history.bytes() <= bytes);
        }
        assert_eq!(forgotten, 199 - history.entries.len());
        assert!(history.entries.len() > 30, "{} of {size} are left", history.entries.len());
    }
    let mut history = History::new(limits(1000), 0);
    let mut ids = IdGenerator::new(2);
    let pushed = history.push(&message(&mut ids, 1000, 1, &EVERYONE), 1000, |_| EMPTY_BYTES);
    assert_eq!((pushed.forgotten, history.bytes()), (1, EMPTY_BYTES));
    assert!(history.catch_up(0, ALL, &NOBODY).is_none());
}

#[test]
fn only_what_stands_alone_is_shared_with_the_mail() {
    let (mut history, mut ids) = (History::new(limits(9), 0), IdGenerator::new(1));
    let plain = message(&mut ids, 1000, 1, &EVERYONE);
    let session = SessionId::new(WorkerId(0), crate::id::SessionSlot(1), [0; 9]);
    let audience = Audience::except(session);
    let unechoed = Publication { audience: &audience, ..message(&mut ids, 1000, 2, &EVERYONE) };
    for message in [plain, unechoed] {
        assert!(history.push(&message, 1000, |_| usize::MAX).shared.is_none());
    }
    let long = "x".repeat(TEXT_BYTES);
    let long = Publication { body: body(Payload::Json(&long)), ..message(&mut ids, 1000, 3, &EVERYONE) };
    let sender = Some(Sender { session, user: None, profile: None, shown: true });
    let signed = Publication { sender, ..message(&mut ids, 1000, 4, &EVERYONE) };
    for message in [long, signed] {
        let shared =
            history.push(&message, 1000, |_| usize::MAX).shared.expect("it is a publication of its own");
        assert_eq!(shared.view().payload(), message.payload());
        assert_eq!(Arc::strong_count(&shared), 2);
    }
    let page = history.page(PageStart::After(0), ALL, &NOBODY);
    assert_eq!(offsets(&page.messages), [1, 2, 3, 4]);
    assert!(page.messages.iter().all(|message| message.view().audience.is_everyone()));
    assert_eq!(page.messages[3].view().sender, sender);
}

/// A client's view: payload by message id.
type View = std::collections::BTreeMap<MessageId, String>;

fn show(view: &mut View, publication: Publication<'_>) {
    let Payload::Json(json) = publication.payload() else { panic!("all is JSON") };
    match publication.kind() {
        Kind::Delete => view.remove(&publication.id),
        // An edit of a message that a client does not have brings it: it is for it now.
        _ => view.insert(publication.id, json.to_owned()),
    };
}

proptest! {
    /// Whoever was away from any point on, and could catch up, sees what one sees who never left; whoever
    /// they are, and whomever messages and changes are for.
    #[test]
    fn catching_up_ends_with_the_same_view(
        steps in prop::collection::vec((0..6u8, any::<prop::sample::Index>(), 0..6usize), 1..80),
        size in 1..20u32,
    ) {
        let users = |names: &[&str]| Some(names.iter().map(|name| Box::from(*name)).collect::<Arc<[Box<str>]>>());
        let audiences = [
            Audience::default(),
            Audience { only_users: users(&["luke"]), ..Audience::default() },
            Audience { only_users: users(&["leia", "luke"]), ..Audience::default() },
            Audience { except_users: users(&["luke"]), ..Audience::default() },
            Audience { only_users: users(&[]), ..Audience::default() },
        ];
        let readers = [None, Some("luke"), Some("leia")];
        let (mut history, mut ids) = (History::new(limits(size), 0), IdGenerator::new(3));
        let mut offset = 0;
        let mut views = vec![readers.map(|_| View::new())];
        for (step, (what, which, audience)) in steps.into_iter().enumerate() {
            let mut now = views.last().expect("there is one").clone();
            let remembered: Vec<MessageId> = history.entries.iter().map(|entry| entry.id).collect();
            let json = step.to_string();
            let id = (!remembered.is_empty() && what > 2).then(|| remembered[which.index(remembered.len())]);
            offset += 1;
            let mut tell = |publication: Publication<'_>| {
                for (view, reader) in now.iter_mut().zip(readers) {
                    if publication.audience.admits_user(reader) {
                        show(view, publication);
                    }
                }
            };
            match id {
                Some(id) => {
                    let Some(old) = history.find(id) else {
                        offset -= 1;
                        continue;
                    };
                    let payload = (what != 5).then_some(Payload::Json(&json));
                    // The last is: as it was.
                    let change = old.changed(offset, payload, audiences.get(audience), history.lost(id), 1);
                    let change = Arc::new(change);
                    history.change(change.clone());
                    if let Some(loss) = change.loss(offset) {
                        tell(loss);
                    }
                    tell(change.view());
                }
                None => {
                    let audience = audiences.get(audience).unwrap_or(&EVERYONE);
                    let message = message(&mut ids, 1000, offset, audience);
                    push(&mut history, &message, 1000);
                    tell(message);
                }
            }
            views.push(now);
        }
        prop_assert!(history.entries.len() <= size as usize);
        let now = views.last().expect("there is one").clone();
        for (since, views) in views.into_iter().enumerate() {
            for ((mut view, now), reader) in views.into_iter().zip(&now).zip(readers) {
                let reader = Viewer::User(reader.map(Arc::from));
                let Some(missed) = history.catch_up(since as u64, ALL, &reader) else { continue };
                prop_assert!(missed.iter().map(HistoryItem::offset).is_sorted());
                prop_assert!(missed.iter().all(|missed| missed.offset() > since as u64));
                missed.iter().for_each(|missed| show(&mut view, missed.view()));
                prop_assert_eq!(&view, now, "{:?} since {}", reader, since);
            }
        }
        for (now, reader) in now.iter().zip(readers) {
            let page = history.page(PageStart::After(0), ALL, &Viewer::User(reader.map(Arc::from)));
            for message in &page.messages {
                let view = message.view();
                prop_assert_eq!(view.kind(), Kind::Message);
                prop_assert_eq!(Payload::Json(now[&view.id].as_str()), view.payload());
            }
        }
    }
}

/// An id of another time, or of a time with few messages, costs few comparisons however long the history is.
#[test]
fn a_message_is_looked_for_among_those_of_its_time() {
    const MESSAGES: u64 = 65_536;
    let mut history = History::new(HistoryLimits { age_ms: u32::MAX, ..limits(65_536) }, 0);
    let (mut one, mut other) = (IdGenerator::new(1), IdGenerator::new(2));
    let ids: Vec<MessageId> = (1..=MESSAGES)
        .map(|offset| {
            // The second worker's clock is 3 ms behind; one message a millisecond.
            let (ids, behind) = if offset % 2 == 0 { (&mut one, 0) } else { (&mut other, 3) };
            let message = message(ids, 1_000 + offset - behind, offset, &EVERYONE);
            push(&mut history, &message, 1_000 + offset);
            message.id
        })
        .collect();
    for (id, offset) in ids.iter().zip(1..) {
        assert_eq!(history.find(*id).and_then(|found| found.offset), Some(offset));
    }
    for time_ms in [0, 1, 5_000, 66_000, 1 << 40] {
        let unknown = IdGenerator::new(3).message_id(time_ms);
        assert!(history.find(unknown).is_none());
        let candidates = history.candidates(unknown.time_ms()).len();
        assert!(candidates <= 32, "{candidates} at {time_ms} ms");
    }
}

proptest! {
    /// Whatever the clocks of the workers do, a message is found.
    #[test]
    fn a_message_is_found_wherever_its_time_is(times in prop::collection::vec(0..40u64, 1..200)) {
        let mut history = History::new(HistoryLimits { age_ms: u32::MAX, ..limits(1000) }, 0);
        let mut ids = Vec::new();
        for (time, offset) in times.into_iter().zip(1..) {
            let message = message(&mut IdGenerator::new(offset), 1000 + time, offset, &EVERYONE);
            push(&mut history, &message, 1000);
            ids.push(message.id);
        }
        for (id, offset) in ids.iter().zip(1..) {
            prop_assert_eq!(history.find(*id).and_then(|found| found.offset), Some(offset));
        }
    }
}
