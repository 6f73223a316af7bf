//! One value from any thread to any thread: the answer to a message that crossed shards.
//!
//! *Place*: made by whoever sends a request through a [`mailbox`](crate::mailbox) and waits for the
//! answer; works on shards, on the simulator and under tokio.
//! *Cancel safety*: a receiver that was polled and dropped loses the value.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use thiserror::Error;

/// The sender was dropped without sending.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the answering side has gone away")]
pub struct Canceled;

#[derive(Debug)]
enum State<T> {
    Empty(Option<Waker>),
    Sent(T),
    /// One side is gone, or the value was taken.
    Closed,
}

type Shared<T> = Arc<Mutex<State<T>>>;

/// Puts `next` in place of the state and returns the state that was.
fn exchange<T>(shared: &Shared<T>, next: State<T>) -> State<T> {
    std::mem::replace(
        &mut *shared.lock().unwrap_or_else(PoisonError::into_inner),
        next,
    )
}

/// Sends the value; dropping it without sending cancels the receiver.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Option<Shared<T>>,
}

/// Resolves to the value.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Shared<T>,
}

/// A sender and the receiver of what it sends.
pub fn channel<T: Send>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(State::Empty(None)));
    (
        Sender {
            shared: Some(Arc::clone(&shared)),
        },
        Receiver { shared },
    )
}

impl<T> Sender<T> {
    /// Sends the value, or gives it back if the receiver is gone.
    pub fn send(mut self, value: T) -> Result<(), T> {
        let shared = self.shared.take().expect("a sender sends once");
        let waker = {
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *state {
                State::Empty(waker) => {
                    let waker = waker.take();
                    *state = State::Sent(value);
                    waker
                }
                State::Sent(_) | State::Closed => return Err(value),
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Whether the receiver is gone: the value is no longer wanted.
    pub fn is_closed(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| {
            let state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            matches!(*state, State::Closed)
        })
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else {
            return;
        };
        if let State::Empty(Some(waker)) = exchange(&shared, State::Closed) {
            waker.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Canceled>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Empty(Some(waker)) if waker.will_wake(context.waker()) => Poll::Pending,
            State::Empty(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            State::Sent(_) | State::Closed => match std::mem::replace(&mut *state, State::Closed) {
                State::Sent(value) => Poll::Ready(Ok(value)),
                State::Empty(_) | State::Closed => Poll::Ready(Err(Canceled)),
            },
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // The value, if there is one, is dropped here, outside of the lock.
        drop(exchange(&self.shared, State::Closed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn value_crosses_threads() {
        let (sender, receiver) = channel();
        let thread = std::thread::spawn(move || block_on(receiver));
        assert_eq!(sender.send(7), Ok(()));
        assert_eq!(thread.join().unwrap(), Ok(7));
    }

    #[test]
    fn dropped_sender_cancels() {
        let (sender, receiver) = channel::<u8>();
        let thread = std::thread::spawn(move || block_on(receiver));
        drop(sender);
        assert_eq!(thread.join().unwrap(), Err(Canceled));
    }

    #[test]
    fn dropped_receiver_gives_the_value_back() {
        let (sender, receiver) = channel();
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.send(7), Err(7));
    }
}
