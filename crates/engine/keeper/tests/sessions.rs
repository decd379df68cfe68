//! Programs beside a container's own, and clients attached to it, on the real engine.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::{World, eventually, is_alive, kill_hard, world};
use tokio::io::AsyncWriteExt as _;
use wharf_engine::log::Stream;
use wharf_engine::session::{
    AttachSpec, ExecSpec, OutputFrom, SESSIONS_PER_CONTAINER_MAX, Session, SessionStdin, Stdin, TerminalSize,
};
use wharf_engine::{ContainerId, ContainerSpec, Engine, EngineError, Signal};
use wharf_engine_keeper::KeeperEngine;

const DEADLINE: Duration = Duration::from_secs(60);

fn sh(script: &str) -> ExecSpec {
    ExecSpec::new(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
}

/// All that comes out of a session, and its exit code.
async fn drain(mut session: Session) -> (String, String, Option<i32>) {
    drop(session.input.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let work = async {
        while let Some(chunk) = session.output.recv().await {
            match chunk.stream {
                Stream::Stdout => out.extend(chunk.bytes),
                Stream::Stderr => err.extend(chunk.bytes),
            }
        }
        session.control.wait().await.code
    };
    let code = tokio::time::timeout(DEADLINE, work).await.expect("the session ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(out), text(err), code)
}

async fn run(world: &World, container: &ContainerId, spec: ExecSpec) -> (String, String, Option<i32>) {
    drain(world.engine.exec(container, spec).await.expect("it runs")).await
}

/// Reads until `text` has come.
async fn read_until(session: &mut Session, text: &str) -> String {
    let mut read = String::new();
    let work = async {
        while !read.contains(text) {
            let chunk = session.output.recv().await.unwrap_or_else(|| panic!("no {text:?} in {read:?}"));
            read.push_str(&String::from_utf8_lossy(&chunk.bytes));
        }
    };
    tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| panic!("it never says {text:?}"));
    read
}

async fn sleeper(world: &World, name: &str) -> ContainerId {
    let sandbox = world.sandbox(name).await;
    let spec = ContainerSpec { ..world.spec(name, &["sleep", "1000"]) };
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    id
}

#[tokio::test]
async fn a_program_runs_in_the_container_with_its_environment_user_and_directory() {
    let Some(world) = world("a_program_runs_in_the_container").await else { return };
    let sandbox = world.sandbox("box").await;
    let mut spec = world.spec("box", &["sleep", "1000"]);
    spec.process.env = vec!["COLOUR=red".to_owned(), "SHAPE=round".to_owned()];
    spec.process.working_dir = "/tmp".to_owned();
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();

    let (out, err, code) =
        run(&world, &id, sh("echo $COLOUR $SHAPE $HOSTNAME; pwd; echo no >&2; exit 7")).await;
    assert_eq!((out.as_str(), err.as_str(), code), ("red round box\n/tmp\n", "no\n", Some(7)));

    let spec = ExecSpec {
        env: vec!["COLOUR=blue".to_owned()],
        working_dir: Some("/bin".to_owned()),
        user: Some("1234:5".to_owned()),
        ..sh("echo $COLOUR $SHAPE; pwd; busybox id -u; busybox id -g; read line; echo \"[$line]\"")
    };
    let (out, _, code) = run(&world, &id, spec).await;
    assert_eq!((out.as_str(), code), ("blue round\n/bin\n1234\n5\n[]\n", Some(0)));

    let mut session =
        world.engine.exec(&id, ExecSpec { stdin: SessionStdin::Open, ..sh("cat; echo over") }).await.unwrap();
    let mut input = session.input.take().unwrap();
    input.write_all(b"hello\n").await.unwrap();
    read_until(&mut session, "hello\n").await;
    input.shutdown().await.unwrap();
    assert_eq!(drain(session).await, ("over\n".to_owned(), String::new(), Some(0)));
    world.end().await;
}

#[tokio::test]
async fn what_cannot_be_run_says_why_with_a_shells_code() {
    let Some(world) = world("what_cannot_be_run_says_why").await else { return };
    let id = sleeper(&world, "box").await;
    let cases: [(&[&str], Option<&str>, i32, &str); 4] = [
        (&["nope"], None, 127, "not found"),
        (&["/tmp"], None, 126, "is a directory"),
        (&["true"], Some("/nowhere"), 128, "chdir"),
        (&[""], None, 127, "no command"),
    ];
    for (args, directory, code, text) in cases {
        let args = args.iter().map(|&word| word.to_owned()).collect();
        let spec = ExecSpec { working_dir: directory.map(str::to_owned), ..ExecSpec::new(args) };
        match world.engine.exec(&id, spec).await {
            Err(EngineError::Start { exit_code, message }) => {
                assert_eq!(exit_code, code, "{message}");
                assert!(message.contains(text), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    let missing = ContainerId::new("missing").unwrap();
    assert!(matches!(world.engine.exec(&missing, sh("true")).await, Err(EngineError::NoContainer(_))));
    world.engine.kill_container(&id, Signal::KILL).await.unwrap();
    world.exit_of(&id).await;
    assert!(matches!(world.engine.exec(&id, sh("true")).await, Err(EngineError::NotRunning(_))));
    world.end().await;
}

#[tokio::test]
async fn a_terminal_is_one_resizes_and_takes_signals_from_its_keys() {
    let Some(world) = world("a_terminal_is_one").await else { return };
    let id = sleeper(&world, "box").await;
    let spec = ExecSpec {
        terminal: Some(TerminalSize { rows: 33, columns: 101 }),
        stdin: SessionStdin::Open,
        ..sh("trap 'busybox stty size' WINCH; \
              trap 'echo interrupted; exit 9' INT; busybox tty; busybox stty size; echo $TERM; while true; do read line; done")
    };
    let mut session = world.engine.exec(&id, spec).await.unwrap();
    let said = read_until(&mut session, "xterm\r\n").await;
    assert!(said.contains("/dev/pts/0") && said.contains("33 101"), "{said:?}");
    session.control.resize(TerminalSize { rows: 10, columns: 20 }).await.unwrap();
    read_until(&mut session, "10 20").await;
    session.input.as_mut().unwrap().write_all(&[3]).await.unwrap();
    read_until(&mut session, "interrupted").await;
    assert_eq!(session.control.wait().await.code, Some(9));
    drop(session);

    let session = world.engine.exec(&id, sh("sleep 1000")).await.unwrap();
    session.control.signal(Signal::TERM).await.unwrap();
    assert!(session.control.resize(TerminalSize::default()).await.is_err(), "there is no terminal");
    assert_eq!(session.control.wait().await.code, Some(143));
    drop(session);
    world.end().await;
}

#[tokio::test]
async fn the_program_has_the_containers_limits_groups_and_no_more_descriptors() {
    let Some(world) = world("the_program_has_the_containers_limits").await else { return };
    let sandbox = world.sandbox("box").await;
    let mut spec = world.spec("box", &["sleep", "1000"]);
    spec.process.capabilities_drop = vec!["ALL".to_owned()];
    spec.process.capabilities_add = vec!["NET_BIND_SERVICE".to_owned()];
    spec.process.no_new_privileges = true;
    spec.process.rlimits = vec![wharf_engine::Rlimit { name: "nofile".to_owned(), soft: 77, hard: 88 }];
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    let script = "cat /proc/1/status > /tmp/one; cat /proc/self/status > /tmp/self; \
        for f in CapPrm CapEff CapBnd CapInh CapAmb NoNewPrivs Seccomp; do \
          busybox grep ^$f: /tmp/one > /tmp/a; busybox grep ^$f: /tmp/self > /tmp/b; \
          busybox cmp /tmp/a /tmp/b || echo differs $f; done; \
        for n in mnt uts ipc net pid cgroup user; do \
          [ \"$(busybox readlink /proc/1/ns/$n)\" = \"$(busybox readlink /proc/self/ns/$n)\" ] || echo other $n; done; \
        busybox cmp /proc/1/cgroup /proc/self/cgroup || echo other group; \
        ulimit -n; ulimit -Hn; busybox ls /proc/self/fd | busybox wc -l";
    let (out, err, _) = run(&world, &id, sh(script)).await;
    // 0, 1, 2 and the one that lists them.
    assert_eq!((out.as_str(), err.as_str()), ("77\n88\n4\n", ""));
    world.end().await;
}

#[tokio::test]
async fn ten_sessions_at_once_do_not_mix_and_more_than_the_bound_are_refused() {
    let Some(world) = world("ten_sessions_at_once").await else { return };
    let id = sleeper(&world, "box").await;
    let mut all = Vec::new();
    for number in 0..10 {
        let (engine, id) = (world.engine.clone(), id.clone());
        all.push(tokio::spawn(async move {
            let script =
                format!("i=0; while [ $i -lt 2000 ]; do echo {number} $i; i=$((i+1)); done; exit {number}");
            drain(engine.exec(&id, sh(&script)).await.expect("it runs")).await
        }));
    }
    for (number, session) in all.into_iter().enumerate() {
        let (out, _, code) = session.await.unwrap();
        assert_eq!(code, i32::try_from(number).ok());
        assert_eq!(out.lines().count(), 2000);
        assert!(out.lines().all(|line| line.starts_with(&format!("{number} "))));
    }
    let mut open = Vec::new();
    for _ in 0..SESSIONS_PER_CONTAINER_MAX {
        open.push(world.engine.exec(&id, sh("sleep 1000")).await.unwrap());
    }
    assert!(matches!(world.engine.exec(&id, sh("true")).await, Err(EngineError::Exhausted { .. })));
    // Those who are dropped are killed, and make room.
    drop(open);
    let alone = async || world.engine.processes(&id).await.is_ok_and(|processes| processes.len() == 1);
    eventually("the programs are gone", alone).await.unwrap();
    assert_eq!(run(&world, &id, sh("true")).await.2, Some(0));
    world.end().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_its_own_program_alone() {
    let Some(world) = world("a_client_that_does_not_read").await else { return };
    let id = sleeper(&world, "box").await;
    let idle = world.engine.exec(&id, sh("busybox yes")).await.unwrap();
    let used = || async {
        let processes = world.engine.processes(&id).await.unwrap();
        processes.iter().find(|process| process.command.contains(&"yes".to_owned())).map(|yes| yes.cpu)
    };
    // It stops when the pipe is full: its CPU time does too.
    let mut last = None;
    let stands = async {
        loop {
            let now = used().await;
            if now.is_some() && now == last {
                return;
            }
            last = now;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(DEADLINE, stands).await.expect("it waits in its write");
    assert_eq!(run(&world, &id, sh("echo fine")).await.0, "fine\n");
    drop(idle);
    eventually("the program is gone", async || used().await.is_none()).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn sessions_end_with_their_container() {
    let Some(world) = world("sessions_end_with_their_container").await else { return };
    let id = sleeper(&world, "box").await;
    let session = world.engine.exec(&id, sh("trap '' TERM; sleep 1000; sleep 1000")).await.unwrap();
    let terminal = ExecSpec { terminal: Some(TerminalSize::default()), ..sh("sleep 1000") };
    let on_terminal = world.engine.exec(&id, terminal).await.unwrap();
    world.engine.kill_container(&id, Signal::KILL).await.unwrap();
    for session in [session, on_terminal] {
        assert_eq!(drain(session).await.2, Some(137));
    }
    assert_eq!(world.exit_of(&id).await.code, Some(137));
    world.end().await;
}

#[tokio::test]
async fn a_session_outlives_its_keeper_and_still_tells_its_exit_code() {
    let Some(world) = world("a_session_outlives_its_keeper").await else { return };
    let id = sleeper(&world, "box").await;
    let spec = ExecSpec { stdin: SessionStdin::Open, ..sh("read line; echo got $line; exit 5") };
    let mut session = world.engine.exec(&id, spec).await.unwrap();
    kill_hard(world.engine.keeper_pid().unwrap()).await;
    session.input.as_mut().unwrap().write_all(b"it\n").await.unwrap();
    let (out, _, code) = drain(session).await;
    assert_eq!(out, "got it\n");
    // A kernel before 6.15 does not keep it for us.
    assert!(code == Some(5) || code.is_none(), "{code:?}");
    // And the next keeper runs programs in what it adopted.
    let again = async || world.engine.exec(&id, sh("true")).await.is_ok();
    eventually("the next keeper runs a program", again).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_dead_client_takes_its_session_along_and_nothing_else() {
    let Some(world) = world("a_dead_client_takes_its_session_along").await else { return };
    let id = sleeper(&world, "box").await;
    // A control plane of its own, whose runtime is thrown away: its sockets close as at its death.
    let config = world.config.clone();
    let of_session = id.clone();
    let pid = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pid = runtime.block_on(async {
            let (engine, _) = KeeperEngine::connect_or_start(config).await.unwrap();
            let session = engine.exec(&of_session, sh("sleep 1000")).await.unwrap();
            let processes = engine.processes(&of_session).await.unwrap();
            std::mem::forget(session);
            processes.iter().map(|process| process.pid).max().unwrap()
        });
        drop(runtime);
        pid
    })
    .join()
    .unwrap();
    eventually("the program is gone", async || !is_alive(pid)).await.unwrap();
    assert_eq!(world.engine.processes(&id).await.unwrap().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_program_that_the_container_stops_before_it_runs_costs_its_own_session_alone() {
    let Some(world) = world("a_program_that_the_container_stops").await else { return };
    let sandbox = world.sandbox("box").await;
    // Whatever appears is stopped at once, again and again.
    let hostile = "while true; do for p in /proc/[0-9]*; do p=${p#/proc/}; \
        [ $p -gt 1 ] && kill -STOP $p 2>/dev/null; done; done";
    let spec = world.sh("box", hostile);
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let (engine, id) = (world.engine.clone(), id.clone());
        waiting.push(tokio::spawn(async move { engine.exec(&id, sh("true")).await.map(drop) }));
    }
    // Nobody else waits for them.
    let other = world.sandbox("other").await;
    let (exit, _) =
        tokio::time::timeout(DEADLINE, world.run(&other, world.sh("other", "exit 3"))).await.unwrap();
    assert_eq!(exit.code, Some(3));
    for task in waiting {
        task.abort();
    }
    world.end().await;
}

#[tokio::test]
async fn attached_clients_get_every_byte_from_the_start_or_from_now() {
    let Some(world) = world("attached_clients_get_every_byte").await else { return };
    let sandbox = world.sandbox("box").await;
    let spec = ContainerSpec {
        stdin: Stdin::Once,
        ..world.sh("box", "printf 'name? '; read name; echo hello $name >&2; cat; printf end")
    };
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    let from = |output| AttachSpec { output, stdin: SessionStdin::Closed };
    let watcher = world.engine.attach(&id, from(OutputFrom::Start)).await.unwrap();
    let with_input = AttachSpec { output: OutputFrom::Start, stdin: SessionStdin::Open };
    let mut typist = world.engine.attach(&id, with_input).await.unwrap();
    // A prompt has no newline, and comes all the same.
    read_until(&mut typist, "name? ").await;
    let mut input = typist.input.take().unwrap();
    input.write_all(b"wharf\nmore\n").await.unwrap();
    read_until(&mut typist, "more\n").await;
    let late = world.engine.attach(&id, from(OutputFrom::Now)).await.unwrap();
    input.shutdown().await.unwrap();
    drop(input);
    let seen = drain(watcher).await;
    assert_eq!(seen, ("name? more\nend".to_owned(), "hello wharf\n".to_owned(), Some(0)));
    assert_eq!(drain(late).await.0, "end");
    drop(typist);
    // What is over can be read again.
    let again = world.engine.attach(&id, from(OutputFrom::Start)).await.unwrap();
    assert_eq!(drain(again).await.0, "name? more\nend");
    assert!(world.engine.attach(&id, from(OutputFrom::Now)).await.unwrap().output.recv().await.is_none());
    world.end().await;
}

#[tokio::test]
async fn leaving_an_attached_container_does_it_nothing() {
    let Some(world) = world("leaving_an_attached_container").await else { return };
    let sandbox = world.sandbox("box").await;
    let spec = ContainerSpec { stdin: Stdin::Open, ..world.sh("box", "while read l; do echo $l; done") };
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    for word in ["one", "two"] {
        let with_input = AttachSpec { output: OutputFrom::Now, stdin: SessionStdin::Open };
        let mut session = world.engine.attach(&id, with_input).await.unwrap();
        let line = format!("{word}\n");
        session.input.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut session, &line).await, line);
    }
    assert_eq!(world.engine.processes(&id).await.unwrap().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn the_processes_of_a_container_are_listed_with_those_of_its_sessions() {
    let Some(world) = world("the_processes_of_a_container").await else { return };
    let id = sleeper(&world, "box").await;
    let session = world.engine.exec(&id, sh("sleep 555")).await.unwrap();
    let processes = world.engine.processes(&id).await.unwrap();
    let commands: BTreeSet<String> = processes.iter().map(|process| process.command.join(" ")).collect();
    assert!(commands.contains("sleep 1000"), "{commands:?}");
    assert!(commands.iter().any(|command| command.contains("sleep 555")), "{commands:?}");
    drop(session);
    world.end().await;
}

#[tokio::test]
async fn a_container_with_a_terminal_is_typed_to_resized_and_logged() {
    let Some(world) = world("a_container_with_a_terminal").await else { return };
    let sandbox = world.sandbox("box").await;
    let spec = ContainerSpec {
        terminal: Some(TerminalSize { rows: 12, columns: 34 }),
        stdin: Stdin::Open,
        ..world.sh(
            "box",
            "busybox tty; busybox stty size; read line; echo \"[$line]\"; \
            busybox stty size; printf bye; exit 6",
        )
    };
    let id = spec.id.clone();
    world.engine.start_container(&sandbox, spec).await.unwrap();
    let with_input = AttachSpec { output: OutputFrom::Start, stdin: SessionStdin::Open };
    let mut session = world.engine.attach(&id, with_input).await.unwrap();
    let said = read_until(&mut session, "12 34").await;
    assert!(said.contains("/dev/pts/0"), "{said:?}");
    session.control.resize(TerminalSize { rows: 50, columns: 60 }).await.unwrap();
    session.input.as_mut().unwrap().write_all(b"typed\n").await.unwrap();
    let (out, _, code) = drain(session).await;
    // What is typed is echoed by the terminal.
    assert!(out.contains("typed\r\n[typed]\r\n50 60\r\nbye"), "{out:?}");
    assert_eq!(code, Some(6));
    let log = world.log(&id).await;
    let text: Vec<u8> = log.iter().flat_map(|record| record.text.clone()).collect();
    assert!(String::from_utf8_lossy(&text).ends_with("50 60\rbye"), "{log:?}");
    world.end().await;
}
