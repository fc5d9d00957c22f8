//! A bounded pool of buffers, for the few frames that have to wait.
//!
//! Almost every frame is read, handled and written in one place. The exceptions, one that waits for a
//! neighbour's address or for its other fragments, need a buffer of their own, and an attacker would like
//! them to need many. So their number is fixed. The memory of a buffer comes when it is first needed; the
//! last one returned is the first one taken, so a pool that is never busy stays small.

use std::{
    fmt, mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// At most so many buffers of one size. Clones are cheap and share the buffers.
#[derive(Clone, Debug)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

impl BufferPool {
    /// A pool of `count` buffers of `size` bytes each. Takes no memory for them yet.
    #[must_use]
    pub fn new(count: usize, size: usize) -> Self {
        let store = Store {
            idle: Vec::with_capacity(count),
            never_used: count,
        };
        Self {
            shared: Arc::new(Shared {
                size,
                store: Mutex::new(store),
            }),
        }
    }

    /// An empty buffer, or none if all are taken.
    #[must_use]
    pub fn take(&self) -> Option<Buffer> {
        let mut store = self.shared.store();
        let bytes = match store.idle.pop() {
            Some(bytes) => bytes,
            None => {
                store.never_used = store.never_used.checked_sub(1)?;
                // Outside of the lock: the allocator may take its time.
                drop(store);
                vec![0; self.shared.size].into_boxed_slice()
            }
        };
        Some(Buffer {
            bytes,
            len: 0,
            home: Arc::clone(&self.shared),
        })
    }

    /// Buffers that could be taken now.
    #[must_use]
    pub fn available(&self) -> usize {
        let store = self.shared.store();
        store.idle.len() + store.never_used
    }

    /// Bytes in a buffer.
    #[must_use]
    pub fn buffer_size(&self) -> usize {
        self.shared.size
    }
}

/// A buffer from a [`BufferPool`], to which it returns when dropped. It reads as the bytes put into it.
pub struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
    home: Arc<Shared>,
}

impl Buffer {
    /// Replaces the content by `bytes`. If they do not fit, nothing changes and the answer is `false`.
    #[must_use]
    pub fn copy_from(&mut self, bytes: &[u8]) -> bool {
        let Some(space) = self.bytes.get_mut(..bytes.len()) else {
            return false;
        };
        space.copy_from_slice(bytes);
        self.len = bytes.len();
        true
    }

    /// Adds `bytes` at the end. If they do not fit, nothing changes and the answer is `false`.
    #[must_use]
    pub fn extend_from(&mut self, bytes: &[u8]) -> bool {
        let Some(space) = self.bytes[self.len..].get_mut(..bytes.len()) else {
            return false;
        };
        space.copy_from_slice(bytes);
        self.len += bytes.len();
        true
    }

    /// Makes the content `len` bytes long, or as long as the buffer is. Bytes that come into view are
    /// zero: what an earlier frame left there may have been another container's.
    pub fn resize(&mut self, len: usize) {
        let len = len.min(self.bytes.len());
        if let Some(new) = self.bytes.get_mut(self.len..len) {
            new.fill(0);
        }
        self.len = len;
    }

    /// Bytes the buffer can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        self.home.store().idle.push(bytes);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Buffer")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Shared {
    size: usize,
    store: Mutex<Store>,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two instructions' work under a lock. A lock-free queue (crossbeam's `ArrayQueue`) was rejected: it is
/// first in, first out, so it would soon have touched all buffers of a pool of which few are in use.
#[derive(Debug)]
struct Store {
    /// Never longer than the pool is large, so pushing does not allocate.
    idle: Vec<Box<[u8]>>,
    never_used: usize,
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::BufferPool;

    #[test]
    fn a_pool_gives_out_what_it_has_and_gets_it_back() {
        let pool = BufferPool::new(2, 16);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        assert_eq!(pool.available(), 0);
        drop(first);
        assert_eq!(pool.available(), 1);
        assert!(pool.take().is_some());
        drop(second);
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn a_buffer_reads_as_what_was_put_into_it() {
        let pool = BufferPool::new(1, 8);
        let mut buffer = pool.take().unwrap();
        assert!(buffer.is_empty());
        assert!(buffer.copy_from(b"frame"));
        assert_eq!(&*buffer, b"frame");
        assert!(buffer.extend_from(b"..."));
        assert!(
            !buffer.extend_from(b"!"),
            "nine bytes do not fit into eight"
        );
        assert!(!buffer.copy_from(b"too long!"));
        assert_eq!(&*buffer, b"frame...");
        buffer[0] = b'F';
        buffer.resize(5);
        assert_eq!(&*buffer, b"Frame");
    }

    #[test]
    fn what_an_earlier_frame_left_is_not_seen() {
        let pool = BufferPool::new(1, 8);
        let mut buffer = pool.take().unwrap();
        assert!(buffer.copy_from(b"secret!!"));
        drop(buffer);
        let mut buffer = pool.take().unwrap();
        assert!(buffer.is_empty());
        buffer.resize(usize::MAX);
        assert_eq!(&*buffer, [0; 8]);
    }

    #[test]
    fn the_memory_of_a_buffer_comes_with_its_first_use() {
        let pool = BufferPool::new(1 << 20, 64 << 10);
        for _ in 0..100 {
            let buffer = pool.take().unwrap();
            assert_eq!(buffer.capacity(), pool.buffer_size());
        }
        assert_eq!(
            pool.shared.store().idle.len(),
            1,
            "the same buffer every time"
        );
    }

    #[test]
    fn a_buffer_outlives_the_pool_and_travels() {
        let pool = BufferPool::new(4, 8);
        let mut buffer = pool.take().unwrap();
        let other = pool.clone();
        drop(pool);
        thread::spawn(move || assert!(buffer.copy_from(b"far")))
            .join()
            .unwrap();
        assert_eq!(other.available(), 4);
    }
}
