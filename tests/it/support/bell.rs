//! As `tokio::sync::watch`, but whoever waits is woken in the order in which they began to wait. The original wakes in an order by
//! chance, so that no run of a simulation would be like another.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

struct Inner<T> {
    /// How often it rang, and what it says.
    said: Mutex<(u64, T)>,
    notify: Notify,
}

/// Who rings. Its clones are the same one.
#[derive(Clone)]
pub struct Sender<T>(Arc<Inner<T>>);

/// Who hears.
#[derive(Clone)]
pub struct Receiver<T> {
    inner: Arc<Inner<T>>,
    heard: u64,
}

pub fn channel<T: Copy>(value: T) -> (Sender<T>, Receiver<T>) {
    let inner = Arc::new(Inner { said: Mutex::new((0, value)), notify: Notify::new() });
    (Sender(inner.clone()), Receiver { inner, heard: 0 })
}

impl<T: Copy> Sender<T> {
    pub fn send_replace(&self, value: T) {
        let mut said = self.0.said.lock().unwrap();
        *said = (said.0 + 1, value);
        drop(said);
        self.0.notify.notify_waiters();
    }

    pub fn get(&self) -> T {
        self.0.said.lock().unwrap().1
    }

    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { inner: self.0.clone(), heard: self.0.said.lock().unwrap().0 }
    }
}

impl<T: Copy> Receiver<T> {
    pub fn borrow_and_update(&mut self) {
        self.heard = self.inner.said.lock().unwrap().0;
    }

    pub fn has_changed(&self) -> bool {
        self.inner.said.lock().unwrap().0 != self.heard
    }

    /// Waits until it has rung since it was heard last.
    pub async fn changed(&mut self) {
        loop {
            let inner = self.inner.clone();
            let notified = inner.notify.notified();
            if self.has_changed() {
                return self.borrow_and_update();
            }
            notified.await;
        }
    }

    /// Waits until it says what is wanted.
    pub async fn wait_for(&mut self, is: impl Fn(T) -> bool) {
        loop {
            let inner = self.inner.clone();
            let notified = inner.notify.notified();
            if is(self.inner.said.lock().unwrap().1) {
                return self.borrow_and_update();
            }
            notified.await;
        }
    }
}
