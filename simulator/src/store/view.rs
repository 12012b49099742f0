//! The store as one process sees it: latency, weather, and silence once the process is dead.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use replicator::bucket::{
    Body, Bucket, ByteRange, Capabilities, DeleteFailure, KeyLayout, ObjectInfo, PutCondition, PutOptions,
    PutOutcome, Upload,
};
use replicator::{Error, ErrorKind, Result};

use super::{Client, Store, Weather};
use crate::choices::mix;
use crate::disk::Process;
use crate::events::Mark;

/// A client's side of a [`Store`].
#[derive(Clone)]
pub struct StoreView {
    store: Arc<Store>,
    process: Arc<Process>,
    /// Weather and outages pass this client by.
    sheltered: bool,
    /// Requests take up to so many milliseconds longer.
    drag: u64,
}

/// A slow client's share of [`StoreView::drag`]: what is deleted is at least two level intervals old.
const SLOW_MILLIS: u64 = 400;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fair,
    Refused,
    Unanswered,
    Late,
    /// Credentials are not accepted.
    Denied,
}

/// The answer to a request that was not carried out.
fn refusal(fate: Fate, key: &str) -> Error {
    match fate {
        Fate::Denied => Error::new(ErrorKind::Denied, format!("store: 403 ExpiredToken: {key}")),
        _ => failure("503", key),
    }
}

fn failure(what: &str, key: &str) -> Error {
    Error::new(ErrorKind::Transient, format!("store: {what}: {key}"))
}

impl StoreView {
    /// The store as `process` sees it.
    #[must_use]
    pub fn new(store: &Arc<Store>, process: &Arc<Process>, client: Client) -> Self {
        let drag = if client == Client::Slow { SLOW_MILLIS } else { 0 };
        let (store, process) = (Arc::clone(store), Arc::clone(process));
        Self { store, process, sheltered: client != Client::Exposed, drag }
    }

    fn scope(&self) -> u64 {
        mix(self.process.id()) ^ u64::from(self.sheltered)
    }

    fn happens(&self, name: &'static str, per_mille: u16) -> bool {
        per_mille > 0 && self.store.context.choices.chance(name, self.scope(), u64::from(per_mille))
    }

    /// Waits as an answer does on its way back: whatever it says may have changed meanwhile, and whoever asked may be gone.
    async fn answered(&self) {
        let millis = self.store.context.choices.next_below("store.latency.back", self.scope(), 15);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.live().await;
    }

    /// Waits as a request does and decides its fate.
    async fn request(&self, verb: &'static str, key: &str) -> Fate {
        self.live().await;
        let weather = {
            let mut state = self.store.lock();
            *state.requests.entry(verb).or_default() += 1;
            if self.sheltered { Weather::default() } else { state.weather }
        };
        let choices = &self.store.context.choices;
        let mut millis = 1 + choices.next_below("store.latency", self.scope(), 20);
        if self.drag > 0 {
            millis += choices.next_below("store.drag", self.scope(), self.drag);
        }
        if self.happens("store.slow", weather.slow) {
            millis += choices.next_below("store.slow.millis", self.scope(), 5000);
        }
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.live().await;
        let (outage, expired) = {
            let state = self.store.lock();
            (state.outage && !self.sheltered, state.expired && !self.sheltered)
        };
        let fate = if expired {
            Fate::Denied
        } else if outage || self.happens("store.refused", weather.refused) {
            Fate::Refused
        } else if self.happens("store.unanswered", weather.unanswered) {
            Fate::Unanswered
        } else if self.happens("store.late", weather.late) {
            Fate::Late
        } else {
            Fate::Fair
        };
        if fate != Fate::Fair {
            self.store.context.event("store", Mark::Fault, format!("{verb} {key}: {fate:?}"));
        }
        fate
    }

    /// Never returns for a dead process: nobody is there to hear the answer.
    async fn live(&self) {
        while self.process.is_alive() && self.process.stopped_millis() > 0 {
            tokio::time::sleep(Duration::from_millis(self.process.stopped_millis())).await;
        }
        if !self.process.is_alive() {
            std::future::pending::<()>().await;
        }
    }

    fn listed(&self, prefix: &str, start_after: Option<&str>) -> Vec<ObjectInfo> {
        let state = self.store.lock();
        let lag = if self.sheltered { 0 } else { state.listing_lag };
        let past = (lag > 0).then(|| state.past(self.store.context.timeline.millis(), lag));
        let wanted = past.as_ref().unwrap_or(&state.objects).iter().filter(|(key, _)| {
            key.starts_with(prefix) && start_after.is_none_or(|after| key.as_str() > after)
        });
        wanted
            .map(|(key, object)| ObjectInfo {
                key: key.clone(),
                size: object.data.len() as u64,
                modified: Some(object.modified),
            })
            .collect()
    }

    async fn send_put(
        &self,
        verb: &'static str,
        key: &str,
        data: Bytes,
        when: PutCondition,
    ) -> Result<PutOutcome> {
        let outcome = match self.request(verb, key).await {
            Fate::Fair => Ok(self.store.apply_put(key, &data, when)),
            fate @ (Fate::Refused | Fate::Denied) => Err(refusal(fate, key)),
            Fate::Unanswered => {
                self.store.apply_put(key, &data, when);
                Err(failure("no answer", key))
            }
            Fate::Late => {
                let key_later = key.to_owned();
                self.later(move |store| {
                    store.apply_put(&key_later, &data, when);
                });
                Err(failure("timeout", key))
            }
        };
        self.answered().await;
        outcome
    }

    /// Carries something out later, when the client has given it up.
    fn later(&self, work: impl FnOnce(&Store) + Send + 'static) {
        let delay = self.store.context.choices.next_below("store.late.millis", self.scope(), 10_000);
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            work(&store);
        });
    }
}

#[async_trait]
impl Bucket for StoreView {
    fn kind(&self) -> &'static str {
        "s3"
    }

    fn location(&self) -> String {
        "s3://simulated".into()
    }

    fn layout(&self) -> KeyLayout {
        KeyLayout::HexLevel
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { create_if_absent: true }
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: PutCondition,
        _options: PutOptions,
    ) -> Result<PutOutcome> {
        self.send_put("PUT", key, body, condition).await
    }

    async fn upload(
        &self,
        key: &str,
        condition: PutCondition,
        _options: PutOptions,
    ) -> Result<Box<dyn Upload>> {
        match self.request("CREATE", key).await {
            Fate::Fair => {
                let (view, key) = (self.clone(), key.to_owned());
                Ok(Box::new(SimUpload { view, key, condition, data: BytesMut::new() }))
            }
            fate => Err(refusal(fate, key)),
        }
    }

    async fn get(&self, key: &str, range: Option<ByteRange>) -> Result<Box<dyn Body>> {
        match self.request("GET", key).await {
            Fate::Fair => {}
            fate => return Err(refusal(fate, key)),
        }
        let (object, weather) = {
            let state = self.store.lock();
            let weather = if self.sheltered { Weather::default() } else { state.weather };
            (state.objects.get(key).cloned(), weather)
        };
        self.answered().await;
        let object =
            object.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("store: no object {key}")))?;
        let size = object.data.len() as u64;
        let range = range.unwrap_or(ByteRange { start: 0, len: None });
        let start = range.start.min(size);
        let end = range.len.map_or(size, |len| (start + len).min(size));
        let mut data = object.data.slice(start as usize..end as usize);
        if !data.is_empty() && self.happens("store.flipped", weather.flipped) {
            let at =
                self.store.context.choices.next_below("store.flipped.at", self.scope(), data.len() as u64);
            let mut bytes = data.to_vec();
            bytes[at as usize] ^= 0x10;
            data = bytes.into();
            self.store.lock().misread.insert(key.to_owned());
            self.store.context.event("store", Mark::Fault, format!("GET {key}: bit flipped at {at}"));
        }
        let cut = self.happens("store.cut", weather.cut).then_some(data.len() / 2);
        let len = data.len() as u64;
        Ok(Box::new(SimBody { view: self.clone(), key: key.into(), data, len, cut }))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        match self.request("HEAD", key).await {
            Fate::Fair => {}
            fate => return Err(refusal(fate, key)),
        }
        let found = self.store.lock().objects.get(key).map(|object| ObjectInfo {
            key: key.into(),
            size: object.data.len() as u64,
            modified: Some(object.modified),
        });
        self.answered().await;
        Ok(found)
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        match self.request("LIST", prefix).await {
            Fate::Fair => {}
            fate => return Err(refusal(fate, prefix)),
        }
        let listed = self.listed(prefix, start_after);
        self.answered().await;
        Ok(listed)
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<DeleteFailure>> {
        let first = keys.first().map_or("", String::as_str);
        let fate = self.request("DELETE", first).await;
        if matches!(fate, Fate::Refused | Fate::Denied) {
            return Err(refusal(fate, first));
        }
        if fate == Fate::Late {
            let keys = keys.to_vec();
            self.later(move |store| keys.iter().for_each(|key| store.apply_delete(key)));
            return Err(failure("timeout", first));
        }
        let weather = if self.sheltered { Weather::default() } else { self.store.lock().weather };
        let mut failures = Vec::new();
        for key in keys {
            if self.happens("store.undeleted", weather.undeleted) {
                failures.push(DeleteFailure { key: key.clone(), error: failure("AccessDenied", key) });
            } else {
                self.store.apply_delete(key);
            }
        }
        self.answered().await;
        match fate {
            Fate::Fair => Ok(failures),
            _ => Err(failure("no answer", first)),
        }
    }
}

struct SimBody {
    view: StoreView,
    key: String,
    data: Bytes,
    len: u64,
    /// Breaks off when so many bytes are left.
    cut: Option<usize>,
}

#[async_trait]
impl Body for SimBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.view.live().await;
        if self.cut.is_some_and(|left| self.data.len() <= left) {
            let key = &self.key;
            self.view.store.context.event("store", Mark::Fault, format!("GET {key}: body breaks off"));
            return Err(failure("connection reset", key));
        }
        if self.data.is_empty() {
            return Ok(None);
        }
        let most = 1 + self.view.store.context.choices.next_below("store.chunk", self.view.scope(), 16_384);
        Ok(Some(self.data.split_to(self.data.len().min(most as usize))))
    }

    fn len(&self) -> u64 {
        self.len
    }
}

struct SimUpload {
    view: StoreView,
    key: String,
    condition: PutCondition,
    data: BytesMut,
}

#[async_trait]
impl Upload for SimUpload {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        self.data.extend_from_slice(&data);
        match self.view.request("PART", &self.key).await {
            Fate::Fair => Ok(()),
            fate => Err(refusal(fate, &self.key)),
        }
    }

    async fn finish(self: Box<Self>) -> Result<PutOutcome> {
        let Self { view, key, condition, data } = *self;
        view.send_put("COMPLETE", &key, data.freeze(), condition).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        match self.view.request("ABORT", &self.key).await {
            Fate::Fair => Ok(()),
            fate => Err(refusal(fate, &self.key)),
        }
    }
}
