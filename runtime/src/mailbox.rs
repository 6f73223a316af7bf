//! A bounded queue of messages to a shard, from any thread.
//!
//! *Place*: between shards, and between the control thread and the shards. Senders work on shards,
//! on the simulator and under tokio; the waker of the receiving task carries the wake-up across.
//! *Ordering*: FIFO per sender.
//! *Limits*: `capacity` messages wait; beyond, `send` waits and `try_send` refuses. The receiver
//! takes all that wait in one go, so up to `capacity` more may be in its hands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use thiserror::Error;

/// Why a message was not taken; it comes back.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TrySendError<M> {
    /// `capacity` messages wait already.
    #[error("the mailbox is full")]
    Full(M),
    /// The receiver is gone.
    #[error("the mailbox is closed")]
    Closed(M),
}

/// The receiver is gone; the message comes back.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the mailbox is closed")]
pub struct SendError<M>(pub M);

#[derive(Debug)]
struct State<M> {
    queue: VecDeque<M>,
    senders: usize,
    receiver_gone: bool,
    receiver_waker: Option<Waker>,
    /// Tasks that wait for room; all are woken when the queue is emptied.
    waiting_senders: Vec<Waker>,
}

#[derive(Debug)]
struct Shared<M> {
    state: Mutex<State<M>>,
    capacity: usize,
}

impl<M> Shared<M> {
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts messages in; clones feed the same queue.
#[derive(Debug)]
pub struct Sender<M> {
    shared: Arc<Shared<M>>,
}

/// Takes messages out. `None` once every sender is gone and the queue is empty.
#[derive(Debug)]
pub struct Receiver<M> {
    shared: Arc<Shared<M>>,
    /// What was taken from the shared queue and not yet handed out.
    taken: VecDeque<M>,
}

/// A mailbox of `capacity` messages.
///
/// # Panics
/// If the capacity is zero.
pub fn channel<M: Send + 'static>(capacity: usize) -> (Sender<M>, Receiver<M>) {
    assert!(capacity > 0, "a mailbox without room");
    let state = State {
        queue: VecDeque::new(),
        senders: 1,
        receiver_gone: false,
        receiver_waker: None,
        waiting_senders: Vec::new(),
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        capacity,
    });
    (
        Sender {
            shared: Arc::clone(&shared),
        },
        Receiver {
            shared,
            taken: VecDeque::new(),
        },
    )
}

impl<M: Send + 'static> Sender<M> {
    /// Puts the message in if there is room. Never blocks.
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        self.send_or_wait(message, None)
    }

    /// Puts the message in, waiting for room.
    ///
    /// # Cancel safety
    /// A dropped future has sent nothing.
    pub async fn send(&self, message: M) -> Result<(), SendError<M>> {
        let mut message = Some(message);
        std::future::poll_fn(|context| {
            let next = message.take().expect("not polled after it was ready");
            match self.send_or_wait(next, Some(context.waker())) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(TrySendError::Closed(back)) => Poll::Ready(Err(SendError(back))),
                Err(TrySendError::Full(back)) => {
                    message = Some(back);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Sends, or leaves `waker` to be woken when there is room.
    fn send_or_wait(&self, message: M, waker: Option<&Waker>) -> Result<(), TrySendError<M>> {
        let receiver_waker = {
            let mut state = self.shared.lock();
            if state.receiver_gone {
                return Err(TrySendError::Closed(message));
            }
            if state.queue.len() >= self.shared.capacity {
                if let Some(waker) = waker {
                    state
                        .waiting_senders
                        .retain(|known| !known.will_wake(waker));
                    state.waiting_senders.push(waker.clone());
                }
                return Err(TrySendError::Full(message));
            }
            state.queue.push_back(message);
            state.receiver_waker.take()
        };
        if let Some(waker) = receiver_waker {
            waker.wake();
        }
        Ok(())
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M> Drop for Sender<M> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.lock();
            state.senders -= 1;
            if state.senders > 0 {
                return;
            }
            state.receiver_waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<M: Send + 'static> Receiver<M> {
    /// The next message; `None` when no more can come.
    ///
    /// # Cancel safety
    /// A dropped future has taken nothing.
    pub async fn recv(&mut self) -> Option<M> {
        std::future::poll_fn(|context| match self.poll_fill(context) {
            Poll::Ready(true) => Poll::Ready(self.taken.pop_front()),
            Poll::Ready(false) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Moves every waiting message to the end of `messages`, at least one; false when no more can
    /// come.
    ///
    /// # Cancel safety
    /// A dropped future has taken nothing.
    pub async fn recv_batch(&mut self, messages: &mut Vec<M>) -> bool {
        std::future::poll_fn(|context| match self.poll_fill(context) {
            Poll::Ready(true) => {
                messages.extend(self.taken.drain(..));
                Poll::Ready(true)
            }
            other => other,
        })
        .await
    }

    /// The next message if one waits.
    pub fn try_recv(&mut self) -> Option<M> {
        if self.taken.is_empty() {
            let _ = self.poll_fill(&mut Context::from_waker(Waker::noop()));
        }
        self.taken.pop_front()
    }

    /// Makes `taken` hold something: true; or false if nothing can come any more.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if !self.taken.is_empty() {
            return Poll::Ready(true);
        }
        let room_wakers = {
            let mut state = self.shared.lock();
            if state.queue.is_empty() {
                if state.senders == 0 {
                    return Poll::Ready(false);
                }
                match &mut state.receiver_waker {
                    Some(known) if known.will_wake(context.waker()) => {}
                    known => *known = Some(context.waker().clone()),
                }
                return Poll::Pending;
            }
            // The two queues change places, so that neither gives up its memory.
            std::mem::swap(&mut state.queue, &mut self.taken);
            std::mem::take(&mut state.waiting_senders)
        };
        for waker in room_wakers {
            waker.wake();
        }
        Poll::Ready(true)
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        let (messages, wakers) = {
            let mut state = self.shared.lock();
            state.receiver_gone = true;
            (
                std::mem::take(&mut state.queue),
                std::mem::take(&mut state.waiting_senders),
            )
        };
        // Outside of the lock: a message's drop may run anything.
        drop(messages);
        for waker in wakers {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn messages_of_a_sender_keep_their_order_across_threads() {
        const COUNT: u32 = 20_000;
        let (sender, mut receiver) = channel::<(u32, u32)>(16);
        let threads: Vec<_> = (0..3)
            .map(|id| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for number in 0..COUNT {
                        block_on(sender.send((id, number))).unwrap();
                    }
                })
            })
            .collect();
        drop(sender);
        let mut next = [0_u32; 3];
        let mut batch = Vec::new();
        while block_on(receiver.recv_batch(&mut batch)) {
            assert!(batch.len() <= 16);
            for (id, number) in batch.drain(..) {
                assert_eq!(
                    number,
                    std::mem::replace(&mut next[id as usize], number + 1)
                );
            }
        }
        assert_eq!(next, [COUNT; 3]);
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn full_mailbox_refuses_and_then_takes() {
        let (sender, mut receiver) = channel(1);
        sender.try_send(1).unwrap();
        assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
        assert_eq!(receiver.try_recv(), Some(1));
        sender.try_send(3).unwrap();
        drop(sender);
        assert_eq!(block_on(receiver.recv()), Some(3));
        assert_eq!(block_on(receiver.recv()), None);
    }

    #[test]
    fn closed_mailbox_gives_messages_back() {
        let (sender, receiver) = channel(1);
        drop(receiver);
        assert_eq!(sender.try_send(1), Err(TrySendError::Closed(1)));
        assert_eq!(block_on(sender.send(2)), Err(SendError(2)));
    }
}
