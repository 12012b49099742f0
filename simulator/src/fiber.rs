//! Fibers: blocking code (SQLite's C code included) that can be paused inside its own I/O calls, and abandoned there.
//!
//! A killed fiber is never unwound: its stack is reset, what it held leaks, as after SIGKILL. Code in a fiber must
//! not hold a lock that other tasks of this thread take while it pauses; all simulated locks follow that rule.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use replicator::host::{Blocking, BoxFuture, Work};

use crate::disk::Process;

/// Why a fiber gives up control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Others may run; continue as soon as it is this fiber's turn again.
    Yield,
    /// Continue after so many simulated milliseconds.
    Sleep(u64),
    /// Its process is dead: never continue.
    Forever,
}

thread_local! {
    static CURRENT: Cell<*const Yielder<(), Pause>> = const { Cell::new(std::ptr::null()) };
}

/// Whether this code runs in a fiber.
#[must_use]
pub fn inside() -> bool {
    !CURRENT.get().is_null()
}

/// Gives up control; returns at once outside a fiber. Does not return at all for [`Pause::Forever`] in a fiber.
pub fn suspend(pause: Pause) {
    let yielder = CURRENT.get();
    if yielder.is_null() {
        return;
    }
    // SAFETY: `CURRENT` is set only while this fiber runs, and its yielder lives on the fiber's own stack.
    unsafe { (*yielder).suspend(pause) };
    assert!(pause != Pause::Forever, "a dead fiber is never resumed");
}

/// Stack per fiber: SQLite's deepest paths need about 100 KiB, unoptimised Rust above it some more.
const STACK_BYTES: usize = 1 << 20;

thread_local! {
    static SPARE_STACKS: std::cell::RefCell<Vec<DefaultStack>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// One piece of blocking work on its own stack.
pub struct Fiber {
    coroutine: Option<Coroutine<(), Pause, (), DefaultStack>>,
    /// Where the work's own stack keeps the handle that pauses it; set by the first run.
    yielder: *const Yielder<(), Pause>,
}

// SAFETY: a simulated world lives on one thread; futures must be `Send` only because production's traits ask for it.
unsafe impl Send for Fiber {}

impl Fiber {
    /// Prepares `work`; nothing runs until [`Fiber::resume`].
    #[must_use]
    pub fn new(work: impl FnOnce() + 'static) -> Self {
        let stack = SPARE_STACKS.with_borrow_mut(Vec::pop);
        let stack =
            stack.unwrap_or_else(|| DefaultStack::new(STACK_BYTES).expect("memory for a fiber's stack"));
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), Pause>, ()| {
            CURRENT.set(yielder);
            work();
        });
        Self { coroutine: Some(coroutine), yielder: std::ptr::null() }
    }

    /// Runs until the next pause; `None` means the work is done.
    pub fn resume(&mut self) -> Option<Pause> {
        let coroutine = self.coroutine.as_mut()?;
        let outer = Outer(CURRENT.replace(self.yielder));
        let result = coroutine.resume(());
        self.yielder = CURRENT.get();
        drop(outer);
        match result {
            CoroutineResult::Yield(pause) => Some(pause),
            CoroutineResult::Return(()) => {
                self.recycle();
                None
            }
        }
    }

    fn recycle(&mut self) {
        if let Some(done) = self.coroutine.take() {
            SPARE_STACKS.with_borrow_mut(|spare| spare.push(done.into_stack()));
        }
    }
}

/// Restores the outer fiber (or none) when the inner one pauses, ends or panics.
struct Outer(*const Yielder<(), Pause>);

impl Drop for Outer {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl Drop for Fiber {
    /// Abandons the stack: nothing on it is dropped, as nothing is when a process is killed.
    fn drop(&mut self) {
        if let Some(coroutine) = &mut self.coroutine
            && coroutine.started()
        {
            // SAFETY: skipping destructors leaks what the stack owned and nothing else: no frame on it is ever
            // entered again, and no other task holds a pointer into it.
            unsafe { coroutine.force_reset() };
            self.recycle();
        }
    }
}

/// A fiber as a future: yields go to the end of the runtime's queue, sleeps are tokio's.
struct Task {
    fiber: Fiber,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(task));
            self.sleep = None;
        }
        match self.fiber.resume() {
            None => Poll::Ready(()),
            Some(Pause::Forever) => Poll::Pending,
            Some(Pause::Yield) => {
                task.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Pause::Sleep(millis)) => {
                self.sleep = Some(Box::pin(tokio::time::sleep(Duration::from_millis(millis))));
                task.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// Runs `work` in a fiber of the current tokio runtime. Dropping the future does not stop work that has begun; the
/// death of `process` does, wherever it is paused.
pub async fn run(process: Arc<Process>, work: impl FnOnce() + Send + 'static) {
    let fiber = Fiber::new(work);
    let task = tokio::spawn(async move {
        tokio::select! {
            biased;
            () = process.death() => std::future::pending().await,
            () = (Task { fiber, sleep: None }) => {}
        }
    });
    match task.await {
        Ok(()) => {}
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_the_runtime_is_going_away) => std::future::pending().await,
    }
}

/// The blocking pool of one simulated process: a bounded number of fibers.
pub struct FiberPool {
    process: Arc<Process>,
    slots: Arc<tokio::sync::Semaphore>,
}

impl FiberPool {
    /// A pool that runs at most `slots` pieces of work at a time.
    #[must_use]
    pub fn new(process: Arc<Process>, slots: usize) -> Self {
        Self { process, slots: Arc::new(tokio::sync::Semaphore::new(slots)) }
    }
}

impl Blocking for FiberPool {
    fn run(&self, work: Work) -> BoxFuture<'static, ()> {
        let (process, slots) = (Arc::clone(&self.process), Arc::clone(&self.slots));
        Box::pin(async move {
            let slot = slots.acquire_owned().await.expect("the pool's semaphore is never closed");
            run(process, move || {
                work();
                drop(slot);
            })
            .await;
        })
    }
}
