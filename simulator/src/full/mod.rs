//! The lane with everything: the same world, but the store is an S3 server on another host of turmoil's network, with
//! a provider's dialect, reached through the real aws-sdk-s3 and its HTTP client.

mod cloud;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use conformance::server::{Dialect, Server, Settings};

use crate::choices::Choices;
use crate::clock::{EPOCH_MILLIS, Timeline};
use crate::context::exclusive;
use crate::lite::{Outcome, World, whole_run};
use crate::plan::Plan;
use crate::{interpose, oracles};
use cloud::{S3Cloud, WeatherPlan};

/// Where the S3 server listens, on the host of that name.
const PORT: u16 = 9000;
/// Bucket that the replica lives in.
const BUCKET: &str = "backups";
/// Grain of time: each tick costs every host a turn, and a run has minutes of quiet.
const TICK: Duration = Duration::from_millis(5);
/// Longest run, in simulated seconds; past it the run is a hang.
const LONGEST_SECS: u64 = 3_600;

/// The dialect that a seed draws.
#[must_use]
pub fn dialect_of(seed: u64) -> &'static str {
    let names = Dialect::names();
    names[Choices::new(seed).below("s3.dialect", 0, names.len() as u64) as usize]
}

/// Runs a plan.
///
/// # Panics
/// If the simulated network itself fails, or the run does not end.
#[must_use]
pub fn run(plan: &Plan, trace: bool) -> Outcome {
    let _turn = exclusive();
    let _seeded = interpose::seed(plan.seed);
    fastrand::seed(plan.seed);
    let epoch = SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH_MILLIS as u64);
    let mut sim = turmoil::Builder::new()
        .rng_seed(plan.seed)
        .epoch(epoch)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .tcp_capacity(4096)
        .simulation_duration(Duration::from_secs(LONGEST_SECS))
        .build();
    let weather = WeatherPlan::new(plan);
    let server = s3_server(plan, &weather);
    let listening = server.clone();
    sim.host("s3", move || serve(listening.clone()));
    let result = Rc::new(RefCell::new(None));
    let (plan, into) = (plan.clone(), Rc::clone(&result));
    sim.client("world", async move {
        let timeline = Timeline::network();
        let world = World::new(&plan, trace, timeline, |context| {
            weather.begin(context);
            Box::new(S3Cloud::new(server, weather))
        });
        let evidence = whole_run(&world).await;
        let outcome = world.outcome(oracles::judge(&evidence), &evidence);
        *into.borrow_mut() = Some((outcome, world));
        Ok(())
    });
    sim.run().expect("a run ends within an hour of simulated time");
    let (outcome, world) = result.take().expect("the world has run to its end");
    // Processes are dead; what they owned is never dropped, as nothing is after SIGKILL.
    drop(sim);
    world.scrap();
    std::mem::forget(world);
    outcome
}

fn s3_server(plan: &Plan, weather: &Arc<WeatherPlan>) -> Server {
    let mut settings = Settings::new(Arc::new(|| {
        EPOCH_MILLIS + turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_millis() as i64)
    }));
    settings.dialect = Dialect::named(dialect_of(plan.seed)).expect("its own list names it");
    // Under the provider's own name the product asks for listings that do not lag; here the server is called `s3`.
    settings.dialect.list.stale_millis = 0;
    if Choices::new(plan.seed).below("s3.page", 0, 2) == 1 {
        // Replicas here are small: pages of the usual size would never need a second one.
        settings.dialect.list.page_size = 5;
    }
    settings.keys = cloud::keys(true);
    settings.domain = "s3".into();
    settings.faults = weather.clone();
    Server::new(settings)
}

async fn serve(server: Server) -> turmoil::Result {
    server.create_bucket(BUCKET);
    let listener = turmoil::net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let server = server.clone();
        tokio::spawn(async move { server.serve_connection(stream).await });
    }
}
