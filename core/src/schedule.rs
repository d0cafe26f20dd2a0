//! Points where a thread may lose the processor, so that a test can try every schedule.
//!
//! Whatever threads share, [`CombiningLock`](crate::channel::CombiningLock) and
//! [`Mailbox`](crate::mailbox::Mailbox), calls `preemption_point` before each access to shared memory that
//! another thread could tell from a later one. A test installs a hook on its threads that decides there which
//! thread runs next. Only debug builds have the call; release builds and loom's builds contain nothing of it.

/// Called by the thread that has reached a point.
pub type Hook = fn();

#[cfg(all(debug_assertions, not(loom)))]
thread_local! {
    static HOOK: std::cell::Cell<Option<Hook>> = const { std::cell::Cell::new(None) };
}

/// Sets the hook of this thread; `None` removes it. Does nothing in a release build.
pub fn set_hook(hook: Option<Hook>) {
    #[cfg(all(debug_assertions, not(loom)))]
    HOOK.set(hook);
    #[cfg(not(all(debug_assertions, not(loom))))]
    let _ = hook;
}

/// Another thread may run here before this one goes on.
#[inline(always)]
pub(crate) fn preemption_point() {
    #[cfg(all(debug_assertions, not(loom)))]
    if let Some(hook) = HOOK.get() {
        hook();
    }
}
