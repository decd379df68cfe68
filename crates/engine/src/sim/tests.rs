//! What the fake engine promises.

use super::*;
use crate::event::EventKind;
use crate::health::{HealthCheck, HealthStatus};
use crate::restart::RestartPolicy;
use crate::status::{ContainerState, ExitStatus};
use crate::volume::{Mount, MountSource};

fn sim() -> Sim {
    Sim::new(Arc::new(ManualClock::new(Timestamp::from_millis(1_000))))
}

fn sandbox(name: &str) -> SandboxSpec {
    SandboxSpec { hostname: name.to_owned(), ..SandboxSpec::new(SandboxId::new(name).unwrap()) }
}

fn container(name: &str, args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        layers: vec!["/layers/app".into()],
        ..ContainerSpec::new(
            ContainerId::new(name).unwrap(),
            args.iter().map(|arg| (*arg).to_owned()).collect(),
        )
    }
}

async fn started(sim: &Sim, args: &[&str]) -> (SandboxId, ContainerId) {
    let (sandbox, spec) = (sandbox("s"), container("c", args));
    let ids = (sandbox.id.clone(), spec.id.clone());
    sim.create_sandbox(sandbox).await.unwrap();
    sim.start_container(&ids.0, spec).await.unwrap();
    ids
}

async fn exit_of(sim: &Sim, container: &ContainerId) -> Option<ExitStatus> {
    match sim.status(container).await.unwrap().state {
        ContainerState::Exited { exit, .. } => Some(exit),
        _ => None,
    }
}

#[tokio::test]
async fn a_container_that_ignores_sigterm_is_killed_after_its_grace() {
    let sim = sim();
    sim.when_args(&["stubborn"], Behaviour::runs().on_signal(OnSignal::Ignores));
    let (_, id) = started(&sim, &["stubborn"]).await;
    sim.stop_container(&id, Signal::TERM, Duration::from_secs(30)).await.unwrap();
    sim.advance(Duration::from_millis(29_999));
    assert_eq!(exit_of(&sim, &id).await, None);
    sim.advance(Duration::from_millis(1));
    let exit = exit_of(&sim, &id).await.unwrap();
    assert_eq!((exit.code, exit.at), (Some(137), Timestamp::from_millis(31_000)));
    assert_eq!(sim.signals(&id), [Signal::TERM, Signal::KILL]);
}

#[tokio::test]
async fn exits_happen_at_their_own_time_and_are_told() {
    let sim = sim();
    let mut events = sim.events();
    sim.when_layer("/layers/app", Behaviour::exits(3).after(Duration::from_secs(2)));
    let (_, id) = started(&sim, &["x"]).await;
    sim.advance(Duration::from_secs(60));
    let exit = exit_of(&sim, &id).await.unwrap();
    assert_eq!((exit.code, exit.at), (Some(3), Timestamp::from_millis(3_000)));
    assert_eq!(events.recv().await.unwrap().kind, EventKind::Created);
    assert!(matches!(events.recv().await.unwrap().kind, EventKind::Started { .. }));
    assert_eq!(events.recv().await.unwrap().kind, EventKind::Exited(exit));
}

#[tokio::test]
async fn a_failed_start_leaves_an_exited_container_and_answers_the_same_again() {
    let sim = sim();
    sim.when_args(&["nope"], Behaviour::cannot_start(127, "exec nope: no such file or directory"));
    sim.create_sandbox(sandbox("s")).await.unwrap();
    for _ in 0..2 {
        let error = sim.start_container(&sandbox("s").id, container("c", &["nope"])).await.unwrap_err();
        assert!(matches!(error, EngineError::Start { exit_code: 127, .. }), "{error:?}");
    }
    let exit = exit_of(&sim, &ContainerId::new("c").unwrap()).await.unwrap();
    assert_eq!(exit.code, Some(127));
}

#[tokio::test]
async fn a_slow_start_answers_when_its_time_has_come() {
    let sim = sim();
    sim.when_args(&["slow"], Behaviour::runs().starting_for(Duration::from_secs(5)));
    sim.create_sandbox(sandbox("s")).await.unwrap();
    let starting = tokio::spawn({
        let sim = sim.clone();
        async move { sim.start_container(&sandbox("s").id, container("c", &["slow"])).await }
    });
    while sim.next_due().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(sim.status(&ContainerId::new("c").unwrap()).await.is_err(), "nobody is told of it yet");
    sim.advance(Duration::from_secs(5));
    let status = starting.await.unwrap().unwrap();
    assert!(
        matches!(status.state, ContainerState::Running { started_at, .. } if started_at.as_millis() == 6_000)
    );
}

#[tokio::test]
async fn logs_are_read_by_position_and_end_with_the_exit() {
    let sim = sim();
    let (_, id) = started(&sim, &["x"]).await;
    sim.log(&id, Stream::Stdout, "one");
    sim.log(&id, Stream::Stderr, "two");
    let chunk = sim.read_log(&id, 0, 1).await.unwrap();
    assert_eq!((chunk.records.len(), chunk.records[0].text.as_slice(), chunk.ended), (1, &b"one"[..], false));
    sim.release_log(&id, chunk.next).await.unwrap();
    sim.exit(&id, 0);
    let chunk = sim.read_log(&id, 0, 1024).await.unwrap();
    assert_eq!((chunk.records.len(), chunk.records[0].text.as_slice(), chunk.ended), (1, &b"two"[..], true));
    assert_eq!(chunk.records[0].next, chunk.next);
}

#[tokio::test]
async fn an_outage_refuses_everything_and_changes_nothing() {
    let sim = sim();
    let (_, id) = started(&sim, &["x"]).await;
    sim.set_outage(Some(EngineError::Internal { message: "the keeper is gone".to_owned() }));
    assert!(sim.list().await.is_err());
    sim.lose_events(1);
    let mut events = sim.events();
    sim.lose_exit(&id);
    sim.set_outage(None);
    let (_, listed) = (events.try_recv().unwrap_err(), sim.list().await.unwrap());
    assert!(
        matches!(&listed[0].containers[0].state, ContainerState::Exited { exit, .. } if exit.code.is_none())
    );
}

#[tokio::test]
async fn the_same_id_with_another_spec_is_a_conflict_and_removal_is_repeatable() {
    let sim = sim();
    let (sandbox, _) = started(&sim, &["x"]).await;
    let error = sim.start_container(&sandbox, container("c", &["y"])).await.unwrap_err();
    assert!(matches!(error, EngineError::Conflict { .. }));
    sim.remove_sandbox(&sandbox).await.unwrap();
    sim.remove_sandbox(&sandbox).await.unwrap();
    assert!(sim.list().await.unwrap().is_empty());
}

fn told(events: &mut EventStream) -> Vec<EventKind> {
    std::iter::from_fn(|| events.try_recv().ok()).map(|event| event.kind).collect()
}

#[tokio::test]
async fn a_container_is_started_again_as_its_policy_says_until_it_is_told_to_stop() {
    let sim = sim();
    sim.when_args(&["loops"], Behaviour::exits(1).after(Duration::from_secs(1)));
    let spec = ContainerSpec { restart: Some(RestartPolicy::Always), ..container("c", &["loops"]) };
    let (place, id) = (sandbox("s"), spec.id.clone());
    sim.create_sandbox(place.clone()).await.unwrap();
    sim.start_container(&place.id, spec).await.unwrap();
    let mut events = sim.events();
    sim.advance(Duration::from_millis(1_050));
    let status = sim.status(&id).await.unwrap();
    assert!(matches!(status.state, ContainerState::Restarting { at, .. } if at.as_millis() == 2_100));
    sim.advance(Duration::from_millis(100));
    let status = sim.status(&id).await.unwrap();
    assert!(matches!(status.state, ContainerState::Running { .. }) && status.restarts == 1);
    let kinds = told(&mut events);
    assert!(matches!(kinds[..], [EventKind::Restarting { .. }, EventKind::Started { .. }]), "{kinds:?}");
    sim.stop_container(&id, Signal::TERM, Duration::from_secs(1)).await.unwrap();
    assert_eq!(sim.wait_container(&id).await.unwrap().code, Some(143));
    sim.advance(Duration::from_secs(100));
    assert!(matches!(told(&mut events)[..], [EventKind::Exited(_)]));
}

#[tokio::test]
async fn one_that_waits_to_be_started_again_can_be_told_to_stay() {
    let sim = sim();
    sim.when_args(&["loops"], Behaviour::exits(1).after(Duration::from_secs(1)));
    let spec = ContainerSpec { restart: Some(RestartPolicy::Always), ..container("c", &["loops"]) };
    let (place, id) = (sandbox("s"), spec.id.clone());
    sim.create_sandbox(place.clone()).await.unwrap();
    sim.start_container(&place.id, spec).await.unwrap();
    sim.advance(Duration::from_millis(1_050));
    sim.stop_container(&id, Signal::TERM, Duration::from_secs(1)).await.unwrap();
    sim.advance(Duration::from_secs(100));
    assert_eq!(sim.wait_container(&id).await.unwrap().code, Some(1));
    assert_eq!(sim.status(&id).await.unwrap().restarts, 0);
}

#[tokio::test]
async fn a_paused_container_is_resumed_by_its_stop() {
    let sim = sim();
    let (_, id) = started(&sim, &["x"]).await;
    let mut events = sim.events();
    sim.pause_container(&id).await.unwrap();
    sim.pause_container(&id).await.unwrap();
    assert!(matches!(sim.status(&id).await.unwrap().state, ContainerState::Paused { .. }));
    sim.stop_container(&id, Signal::TERM, Duration::from_secs(1)).await.unwrap();
    let kinds = told(&mut events);
    assert!(matches!(kinds[..], [EventKind::Paused, EventKind::Resumed, EventKind::Exited(_)]), "{kinds:?}");
    assert!(matches!(sim.pause_container(&id).await, Err(EngineError::NotRunning(_))));
}

#[tokio::test]
async fn health_is_what_the_probes_say() {
    let sim = sim();
    let check = HealthCheck {
        args: vec!["true".to_owned()],
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        retries: 2,
        start_period: Duration::ZERO,
    };
    let spec = ContainerSpec { health: Some(check), ..container("c", &["x"]) };
    let (place, id) = (sandbox("s"), spec.id.clone());
    sim.create_sandbox(place.clone()).await.unwrap();
    sim.start_container(&place.id, spec).await.unwrap();
    let mut events = sim.events();
    assert_eq!(sim.status(&id).await.unwrap().health, Some(HealthStatus::Starting));
    for code in [Some(0), Some(1), None] {
        sim.probe(&id, code);
    }
    let kinds = told(&mut events);
    use HealthStatus::{Healthy, Unhealthy};
    assert_eq!(kinds, [EventKind::Health(Healthy), EventKind::Health(Unhealthy)]);
    assert_eq!(sim.health(&id).await.unwrap().unwrap().probes.len(), 3);
}

#[tokio::test]
async fn a_named_volume_outlives_its_sandbox_and_is_kept_while_it_is_used() {
    let sim = sim();
    let name = VolumeName::new("data").unwrap();
    let mount = Mount::volume(MountSource::Named(name.clone()), "/data");
    let spec = ContainerSpec { mounts: vec![mount], ..container("c", &["x"]) };
    let place = sandbox("s");
    sim.create_sandbox(place.clone()).await.unwrap();
    let missing = sim.start_container(&place.id, spec.clone()).await;
    assert!(matches!(missing, Err(EngineError::NoVolume(_))), "{missing:?}");
    let volume = VolumeSpec { name: name.clone(), labels: Vec::new() };
    sim.create_volume(volume.clone()).await.unwrap();
    sim.start_container(&place.id, spec).await.unwrap();
    assert!(matches!(sim.remove_volume(&name).await, Err(EngineError::InUse { .. })));
    let other = VolumeSpec { labels: vec![("a".to_owned(), "b".to_owned())], ..volume };
    assert!(matches!(sim.create_volume(other).await, Err(EngineError::Conflict { .. })));
    sim.remove_sandbox(&place.id).await.unwrap();
    assert_eq!(sim.list_volumes().await.unwrap().len(), 1);
    sim.remove_volume(&name).await.unwrap();
    assert_eq!(sim.list_volumes().await.unwrap(), []);
}
