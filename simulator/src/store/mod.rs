//! Object storage without HTTP: what every request did, for ever, and the ways a store lets its clients down.
//!
//! The three ambiguities are first-class: refused, applied but unanswered, applied *later* (after the client has
//! moved on). Must not know what the objects mean.

mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use replicator::bucket::{Bucket, PutCondition, PutOutcome};
use replicator::host::{Dial, Host, UnixMillis};

use crate::clock::EPOCH_MILLIS;
use crate::context::Context;
use crate::disk::Process;
use crate::events::Mark;

pub use view::StoreView;

/// How often requests go wrong, per mille.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Weather {
    /// Refused; nothing happened.
    pub refused: u16,
    /// Applied, but the answer never comes back whole.
    pub unanswered: u16,
    /// Reported as failed, applied up to ten seconds later.
    pub late: u16,
    /// Takes up to five seconds.
    pub slow: u16,
    /// A body breaks off.
    pub cut: u16,
    /// A body arrives with a flipped bit.
    pub flipped: u16,
    /// One key of a deletion fails.
    pub undeleted: u16,
}

/// What a listing would say about an object, were it always right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Key.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: UnixMillis,
    /// Whether somebody may have read it with a wrong bit, and take it for lost since.
    pub misread: bool,
}

/// How the store treats a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Weather and outages hit it.
    Exposed,
    /// Weather and outages pass it by.
    Sheltered,
    /// Sheltered, but its requests take their time, so that the replica changes meanwhile. Stores that cannot do it
    /// treat it as sheltered.
    Slow,
}

/// A place for replicas, as whoever directs a world handles it.
pub trait Cloud {
    /// The network that reaches it, if it needs one.
    fn dial(&self) -> Option<Arc<dyn Dial>>;
    /// The bucket as `process` sees it.
    fn bucket(&self, process: &Arc<Process>, host: &Host, client: Client) -> Arc<dyn Bucket>;
    /// Changes the weather.
    fn set_weather(&self, weather: Weather);
    /// Nothing answers until this is called with `false`.
    fn set_outage(&self, outage: bool);
    /// Whether the replicator's credentials are accepted.
    fn set_credentials(&self, accepted: bool);
    /// Listings that the replicator gets are so old; zero means correct. Stores that cannot do it ignore it.
    fn set_listing_lag(&self, millis: u64);
    /// By so many milliseconds a listing may lag now.
    fn listing_lag(&self) -> u64;
    /// Number of requests by verb so far.
    fn requests(&self) -> BTreeMap<&'static str, u64>;
    /// Every object.
    fn objects(&self) -> Vec<Stored>;
    /// Flips bits of one byte of a stored object, if the store can: decay that no answer reveals.
    fn rot(&self, key: &str, offset: usize, mask: u8);
    /// Multipart uploads begun and neither completed nor aborted.
    fn unfinished_uploads(&self) -> usize;
    /// Removes, cuts or changes one object behind everybody's back, after mending what the last `round` spoiled. Says
    /// what, and whether the newest transaction went with it; `None` where that cannot be done.
    fn spoil(&self, round: u64) -> Option<(String, bool)>;
    /// One object decays, if the store can do that.
    fn decay(&self);
    /// A sound copy of the decayed object is put back.
    fn mend(&self);
    /// How often something decayed so far, and whether it still is.
    fn decayed(&self) -> (u64, bool);
    /// A store of its own with the same objects and fair weather, if the store can be copied.
    fn fork(&self) -> Option<Box<dyn Cloud>>;
}

impl Cloud for Arc<Store> {
    fn dial(&self) -> Option<Arc<dyn Dial>> {
        None
    }

    fn bucket(&self, process: &Arc<Process>, _host: &Host, client: Client) -> Arc<dyn Bucket> {
        Arc::new(StoreView::new(self, process, client))
    }

    fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    fn set_outage(&self, outage: bool) {
        self.lock().outage = outage;
        let text = if outage { "store: outage begins" } else { "store: outage ends" };
        self.context.event("store", Mark::Fault, text);
    }

    fn set_credentials(&self, accepted: bool) {
        self.lock().expired = !accepted;
        let text = if accepted { "credentials are accepted again" } else { "credentials expire" };
        self.context.event("store", Mark::Fault, text);
    }

    fn set_listing_lag(&self, millis: u64) {
        self.lock().listing_lag = millis;
    }

    fn listing_lag(&self) -> u64 {
        self.lock().listing_lag
    }

    fn requests(&self) -> BTreeMap<&'static str, u64> {
        self.lock().requests.clone()
    }

    fn objects(&self) -> Vec<Stored> {
        let state = self.lock();
        let stored = |(key, object): (&String, &Object)| Stored {
            key: key.clone(),
            size: object.data.len() as u64,
            modified: object.modified,
            misread: state.misread.contains(key),
        };
        state.objects.iter().map(stored).collect()
    }

    fn rot(&self, key: &str, offset: usize, mask: u8) {
        Store::rot(self, key, offset, mask);
    }

    fn unfinished_uploads(&self) -> usize {
        // The bucket interface has no trace of an upload that was never completed.
        0
    }

    fn spoil(&self, round: u64) -> Option<(String, bool)> {
        let number = |name, bound: usize| self.context.choices.below(name, round, bound as u64) as usize;
        let mut state = self.lock();
        let sound = state.sound.take().unwrap_or_else(|| state.objects.clone());
        state.objects.clone_from(&sound);
        state.sound = Some(sound);
        let keys: Vec<String> = state.objects.keys().cloned().collect();
        let key = keys.get(number("spoil.key", keys.len().max(1)))?;
        let size = state.objects[key].data.len();
        let how = if number("spoil.gap", 3) == 2 { None } else { Some(number("spoil.how", 4)) };
        let what = match how {
            None => {
                let first = first_transaction(key);
                state
                    .objects
                    .retain(|key, _| first_transaction(key) > first || last_transaction(key) < first);
                "and all that hold its first transaction removed".to_owned()
            }
            Some(0 | 1) => {
                state.objects.remove(key);
                "removed".to_owned()
            }
            Some(2) => {
                let len = number("spoil.at", size);
                let object = state.objects.get_mut(key)?;
                object.data.truncate(len);
                format!("cut to {len} of {size} bytes")
            }
            Some(_) => {
                let at = number("spoil.at", size);
                let object = state.objects.get_mut(key)?;
                let mut data = object.data.to_vec();
                data[at] ^= 1 << number("spoil.bit", 8);
                object.data = data.into();
                format!("byte {at} of {size} changed")
            }
        };
        let newest = keys.iter().map(|key| last_transaction(key)).max();
        let newest_gone = state.objects.keys().map(|key| last_transaction(key)).max() != newest;
        let text = format!("{key} {what}");
        drop(state);
        self.context.event("store", Mark::Fault, text.clone());
        Some((text, newest_gone))
    }

    fn decay(&self) {
        let mut state = self.lock();
        state.decays += 1;
        let number =
            |name, bound: usize| self.context.choices.below(name, state.decays, bound.max(1) as u64) as usize;
        let at = number("decay.key", state.objects.len());
        let Some((key, object)) = state.objects.iter().nth(at).map(|(key, o)| (key.clone(), o.clone()))
        else {
            return;
        };
        let (offset, mask) = (number("decay.offset", object.data.len()), 1 << number("decay.bit", 8));
        state.decayed = Some((key.clone(), object.data));
        state.misread.insert(key.clone());
        drop(state);
        self.rot(&key, offset, mask);
    }

    fn mend(&self) {
        let mut state = self.lock();
        let Some((key, sound)) = state.decayed.take() else { return };
        let Some(object) = state.objects.get_mut(&key) else { return };
        // The key may be in use for something else by now.
        if object.data.len() == sound.len()
            && object.data.iter().zip(&sound).filter(|(a, b)| a != b).count() <= 1
        {
            object.data = sound;
        }
        drop(state);
        self.context.event("store", Mark::Note, format!("{key} is sound again"));
    }

    fn decayed(&self) -> (u64, bool) {
        let state = self.lock();
        (state.decays, state.decayed.is_some())
    }

    fn fork(&self) -> Option<Box<dyn Cloud>> {
        let fork = Store::new(&self.context);
        fork.lock().objects = self.lock().objects.clone();
        Some(Box::new(fork))
    }
}

/// Names are `level/first-last.ltx`, in hexadecimal of fixed length.
fn first_transaction(key: &str) -> &str {
    key.rsplit('/').next().and_then(|name| name.split('-').next()).unwrap_or_default()
}

fn last_transaction(key: &str) -> &str {
    key.rsplit('-').next().and_then(|name| name.split('.').next()).unwrap_or_default()
}

/// One object at one time.
#[derive(Debug, Clone)]
pub struct Object {
    /// Content.
    pub data: Bytes,
    /// When it was written, by the store's clock.
    pub modified: UnixMillis,
}

/// One change of the store.
#[derive(Debug, Clone)]
pub struct Change {
    /// Simulated milliseconds.
    pub at_millis: u64,
    /// Key.
    pub key: String,
    /// New content; `None` for a deletion.
    pub object: Option<Object>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    changes: Vec<Change>,
    requests: BTreeMap<&'static str, u64>,
    weather: Weather,
    outage: bool,
    expired: bool,
    listing_lag: u64,
    /// Key and sound content of the object that is decayed now, and how many there were.
    decayed: Option<(String, Bytes)>,
    decays: u64,
    /// Keys of objects that were handed out with a wrong bit.
    misread: BTreeSet<String>,
    /// The objects before one of them was spoiled.
    sound: Option<BTreeMap<String, Object>>,
}

impl State {
    /// The objects as they were `lag` milliseconds before `now`.
    fn past(&self, now: u64, lag: u64) -> BTreeMap<String, Object> {
        let mut objects = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.at_millis + lag <= now) {
            match &change.object {
                Some(object) => objects.insert(change.key.clone(), object.clone()),
                None => objects.remove(&change.key),
            };
        }
        objects
    }
}

/// The store. What processes talk to is a [`StoreView`].
pub struct Store {
    context: Context,
    state: Mutex<State>,
}

impl Store {
    /// An empty store in fair weather.
    #[must_use]
    pub fn new(context: &Context) -> Arc<Self> {
        Arc::new(Self { context: context.clone(), state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic inside a request")
    }

    /// Everything that ever changed, in order.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.lock().changes.clone()
    }

    /// Flips bits of one byte of a stored object: decay that no answer reveals.
    pub fn rot(&self, key: &str, offset: usize, mask: u8) {
        let mut state = self.lock();
        if let Some(object) = state.objects.get_mut(key)
            && offset < object.data.len()
        {
            let mut data = object.data.to_vec();
            data[offset] ^= mask;
            object.data = data.into();
            self.context.event("store", Mark::Fault, format!("bit rot in {key} at {offset}"));
        }
    }

    fn apply_put(&self, key: &str, data: &Bytes, condition: PutCondition) -> PutOutcome {
        let at_millis = self.context.timeline.millis();
        let mut state = self.lock();
        if condition == PutCondition::IfAbsent
            && let Some(existing) = state.objects.get(key)
        {
            return if existing.data == *data { PutOutcome::AlreadyThere } else { PutOutcome::Conflict };
        }
        let modified = UnixMillis(EPOCH_MILLIS + at_millis as i64);
        let object = Object { data: data.clone(), modified };
        state.objects.insert(key.into(), object.clone());
        state.changes.push(Change { at_millis, key: key.into(), object: Some(object) });
        drop(state);
        self.context.event("store", Mark::Note, format!("PUT {key} ({} bytes)", data.len()));
        PutOutcome::Written
    }

    fn apply_delete(&self, key: &str) {
        let at_millis = self.context.timeline.millis();
        let mut state = self.lock();
        if state.objects.remove(key).is_some() {
            state.changes.push(Change { at_millis, key: key.into(), object: None });
            drop(state);
            self.context.event("store", Mark::Note, format!("DELETE {key}"));
        }
    }
}
