//! How many of something each user may have at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One of the places of a user, free again once this is dropped.
pub(super) type Place = OwnedSemaphorePermit;

/// The places of all users.
#[derive(Debug)]
pub(super) struct Quota {
    /// Places of each user.
    each: usize,
    users: Mutex<BTreeMap<u32, Arc<Semaphore>>>,
}

impl Quota {
    pub(super) fn new(each: usize) -> Quota {
        Quota {
            each,
            users: Mutex::default(),
        }
    }

    /// Waits for a place of this user.
    pub(super) async fn place(&self, uid: u32) -> Option<Place> {
        self.of(uid).acquire_owned().await.ok()
    }

    /// A place of this user, if one is free.
    pub(super) fn try_place(&self, uid: u32) -> Option<Place> {
        self.of(uid).try_acquire_owned().ok()
    }

    fn of(&self, uid: u32) -> Arc<Semaphore> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        // Every place that is taken, and everybody who waits for one, refers to its semaphore.
        users.retain(|&user, places| user == uid || Arc::strong_count(places) > 1);
        users
            .entry(uid)
            .or_insert_with(|| Arc::new(Semaphore::new(self.each)))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_at_the_limit_takes_nothing_from_another() {
        let quota = Quota::new(2);
        let first = quota.try_place(1).unwrap();
        let _second = quota.try_place(1).unwrap();
        assert!(quota.try_place(1).is_none());
        let _other = quota.try_place(2).unwrap();
        drop(first);
        let _third = quota.try_place(1).unwrap();
        assert!(quota.try_place(1).is_none());
    }

    #[test]
    fn users_without_a_place_are_forgotten() {
        let quota = Quota::new(1);
        for uid in 0..1000 {
            drop(quota.try_place(uid).unwrap());
        }
        assert_eq!(quota.users.lock().unwrap().len(), 1);
    }
}
