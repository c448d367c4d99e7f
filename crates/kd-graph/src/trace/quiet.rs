//! Panics of a forward pass as values.
//!
//! A capture cannot compute, so burn panics where a forward pass reads a number out of a tensor. The message belongs into an error and not
//! on the terminal; panics of other threads stay as loud as they are.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Where the panics of this thread go while somebody is listening: the place of the last one.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
    static LISTENING: RefCell<usize> = const { RefCell::new(0) };
}

/// What a panic said, and where in the source.
#[derive(Debug, Default)]
pub(super) struct Panicked {
    pub(super) message: String,
    pub(super) place: Option<String>,
}

/// Runs `work`; a panic in this thread becomes an error and prints nothing.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    install();
    LISTENING.with_borrow_mut(|depth| *depth += 1);
    let result = catch_unwind(AssertUnwindSafe(work));
    LISTENING.with_borrow_mut(|depth| *depth -= 1);
    result.map_err(|payload| Panicked { message: message(&*payload), place: PLACE.take() })
}

/// Puts a hook before the present one, once in a process. It is never taken away again: that would race with other threads.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |info| {
            if LISTENING.with_borrow(|depth| *depth > 0) {
                PLACE.set(info.location().map(|place| format!("{}:{}", place.file(), place.line())));
            } else {
                others(info);
            }
        }));
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without message".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_message_and_place() {
        let panicked = quietly(|| panic!("no {}", "luck")).unwrap_err();
        assert_eq!(panicked.message, "no luck");
        assert!(panicked.place.unwrap().contains("quiet.rs"));
        assert_eq!(quietly(|| 7).unwrap(), 7);
    }
}
