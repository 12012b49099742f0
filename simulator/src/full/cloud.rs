//! The S3 server as the world's director and its processes meet it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use conformance::server::dialect::Addressing;
use conformance::server::{
    AccessKey, ErrorAnswer, Fault, FaultPlan, Moment, Outcome, RequestFacts, Server, Verb,
};
use futures::FutureExt as _;
use replicator::bucket::settings::{S3Settings, Secret, Settings};
use replicator::bucket::{self, Bucket};
use replicator::host::{BoxFuture, Dial, Host, Stream, UnixMillis};

use super::{BUCKET, PORT};
use crate::context::Context;
use crate::disk::Process;
use crate::events::Mark;
use crate::plan::Plan;
use crate::store::{Client, Cloud, Stored, Weather};

/// Access key of the replicator.
const KEY: &str = "replicator";
/// Access key of clients that weather passes by.
const SHELTERED_KEY: &str = "operator";

/// Decides about each request from the run's choices.
pub struct WeatherPlan {
    weather: Mutex<(Weather, bool)>,
    /// Keys of objects that were handed out with a wrong bit.
    misread: Mutex<BTreeSet<String>>,
    context: OnceLock<Context>,
}

impl WeatherPlan {
    /// Fair until a run begins.
    #[must_use]
    pub fn new(plan: &Plan) -> Arc<Self> {
        let weather = Mutex::new((plan.weather, false));
        Arc::new(Self { weather, misread: Mutex::default(), context: OnceLock::new() })
    }

    /// The run whose choices decide.
    pub fn begin(&self, context: &Context) {
        assert!(self.context.set(context.clone()).is_ok(), "one run per server");
    }

    fn outcome(&self, context: &Context, request: &RequestFacts) -> Outcome {
        let (weather, outage) = *self.weather.lock().expect("plain data");
        let happens =
            |name, per_mille: u16| per_mille > 0 && context.choices.chance(name, 0, u64::from(per_mille));
        let number = |name, bound| context.choices.next_below(name, 0, bound);
        let slow_down = || {
            let mut answer = ErrorAnswer::new(503, "SlowDown");
            answer.retry_after_secs = (number("s3.retry_after", 2) == 1).then_some(1);
            answer
        };
        if outage {
            return if number("s3.outage", 3) == 2 { Outcome::Silence } else { Outcome::Hangup };
        }
        if happens("s3.refused", weather.refused) {
            // To a request that reads, a 404 is an answer.
            let reads = matches!(request.verb, Verb::GetObject | Verb::HeadObject);
            return match number("s3.refused.how", if reads { 3 } else { 4 }) {
                0 => Outcome::Refuse(slow_down()),
                1 => Outcome::Refuse(ErrorAnswer::new(500, "InternalError")),
                2 => Outcome::Hangup,
                // A proxy that has lost the store.
                _ => Outcome::Refuse(ErrorAnswer::new(404, "")),
            };
        }
        if happens("s3.unanswered", weather.unanswered) {
            return match number("s3.unanswered.how", 3) {
                0 => Outcome::ApplyThenHangup,
                1 => Outcome::ApplyThenError(slow_down()),
                _ => Outcome::ApplyThenSilence,
            };
        }
        if happens("s3.late", weather.late) {
            return Outcome::HangupThenApply(Duration::from_millis(number("s3.late.millis", 10_000)));
        }
        match request.verb {
            Verb::GetObject if happens("s3.cut", weather.cut) => Outcome::CutBody(number("s3.cut.at", 8_192)),
            Verb::GetObject if happens("s3.flipped", weather.flipped) => {
                Outcome::FlipBit(number("s3.flipped.at", 1 << 20))
            }
            Verb::DeleteObjects if happens("s3.undeleted", weather.undeleted) => {
                Outcome::FailKeys("ltx".into(), ErrorAnswer::new(403, "AccessDenied"))
            }
            _ => Outcome::Pass,
        }
    }
}

impl FaultPlan for WeatherPlan {
    fn decide(&self, request: &RequestFacts) -> Fault {
        let Some(context) = self.context.get() else { return Fault::default() };
        let key = request.key.as_deref().unwrap_or_default();
        context.log.step("request", request.ordinal, [request.verb as u64, request.body_bytes, 0]);
        let authorization = request.headers.get("authorization").and_then(|value| value.to_str().ok());
        if authorization.is_some_and(|text| text.contains(SHELTERED_KEY)) {
            return Fault::default();
        }
        let outcome = self.outcome(context, request);
        if matches!(outcome, Outcome::FlipBit(_)) {
            self.misread.lock().expect("plain data").insert(key.to_owned());
        }
        if outcome != Outcome::Pass {
            context.event("store", Mark::Fault, format!("{:?} {key}: {outcome:?}", request.verb));
        } else if matches!(request.verb, Verb::PutObject | Verb::CompleteMultipartUpload) {
            let text = format!("{:?} {key} ({} bytes)", request.verb, request.body_bytes);
            context.event("store", Mark::Note, text);
        }
        let slow = self.weather.lock().expect("plain data").0.slow;
        let delay = if slow > 0 && context.choices.chance("s3.slow", 0, u64::from(slow)) {
            context.choices.next_below("s3.slow.millis", 0, 5_000)
        } else {
            0
        };
        Fault { delay: Duration::from_millis(delay), outcome }
    }
}

/// The store of a full run.
pub struct S3Cloud {
    server: Server,
    weather: Arc<WeatherPlan>,
}

impl S3Cloud {
    /// A server and what goes wrong with it.
    #[must_use]
    pub fn new(server: Server, weather: Arc<WeatherPlan>) -> Self {
        Self { server, weather }
    }
}

impl Cloud for S3Cloud {
    fn dial(&self) -> Option<Arc<dyn Dial>> {
        Some(Arc::new(Network))
    }

    fn bucket(&self, _process: &Arc<Process>, host: &Host, client: Client) -> Arc<dyn Bucket> {
        let sheltered = client != Client::Exposed;
        let dialect = self.server.dialect();
        let settings = S3Settings {
            bucket: BUCKET.into(),
            path: "app".into(),
            region: Some(dialect.region.clone().unwrap_or_else(|| "us-east-1".into())),
            endpoint: Some(format!("http://s3:{PORT}{}", dialect.path_prefix)),
            access_key_id: Some(if sheltered { SHELTERED_KEY } else { KEY }.into()),
            secret_access_key: Some(Secret::new("secret")),
            force_path_style: Some(dialect.addressing != Addressing::Virtual),
            ..S3Settings::default()
        };
        bucket::open(host, &Settings::S3(Box::new(settings)))
            .now_or_never()
            .expect("opening a bucket makes no request")
            .expect("the settings are complete")
    }

    fn set_weather(&self, weather: Weather) {
        self.weather.weather.lock().expect("plain data").0 = weather;
    }

    fn set_outage(&self, outage: bool) {
        self.weather.weather.lock().expect("plain data").1 = outage;
    }

    fn set_credentials(&self, accepted: bool) {
        self.server.set_keys(keys(accepted));
    }

    fn set_listing_lag(&self, _millis: u64) {
        // Whether listings lag is a matter of the dialect here.
    }

    fn listing_lag(&self) -> u64 {
        0
    }

    fn requests(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for (verb, count) in self.server.traffic().requests {
            let name = match verb {
                Verb::PutObject | Verb::CompleteMultipartUpload => "PUT",
                Verb::ListObjects => "LIST",
                Verb::GetObject | Verb::HeadObject => "GET",
                Verb::DeleteObject | Verb::DeleteObjects => "DELETE",
                _ => "OTHER",
            };
            *sums.entry(name).or_default() += count;
        }
        sums
    }

    fn objects(&self) -> Vec<Stored> {
        let store = self.server.store();
        let all = store.list(BUCKET, "app/", Moment::Latest).expect("the bucket exists");
        let misread = self.weather.misread.lock().expect("plain data");
        all.map(|(key, version, object)| Stored {
            key: key.trim_start_matches("app/").to_owned(),
            size: object.body.len() as u64,
            modified: UnixMillis(version.at),
            misread: misread.contains(key),
        })
        .collect()
    }

    fn rot(&self, _key: &str, _offset: usize, _mask: u8) {
        // The server's versions never change once written; the lane without HTTP does this.
    }

    fn unfinished_uploads(&self) -> usize {
        self.server.store().uploads(BUCKET).map_or(0, BTreeMap::len)
    }

    fn spoil(&self, _round: u64) -> Option<(String, bool)> {
        None
    }

    fn decay(&self) {
        // As with `rot`.
    }

    fn mend(&self) {}

    fn decayed(&self) -> (u64, bool) {
        (0, false)
    }

    fn fork(&self) -> Option<Box<dyn Cloud>> {
        None
    }
}

/// The keys that may sign: the operator's, and the replicator's unless it has expired.
pub fn keys(replicator: bool) -> Vec<AccessKey> {
    let mut keys = vec![AccessKey::new(SHELTERED_KEY, "secret")];
    keys.extend(replicator.then(|| AccessKey::new(KEY, "secret")));
    keys
}

/// turmoil's network.
struct Network;

impl Dial for Network {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        // `bucket.s3` is the same server as `s3`.
        let host = host.rsplit('.').next().unwrap_or(host).to_owned();
        Box::pin(async move {
            let stream = turmoil::net::TcpStream::connect((host, port)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
