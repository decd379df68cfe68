//! The program as a task runs it: metadata from an address in the environment, and SIGTERM.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    fn start(metadata: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharf-example-hello"));
        command.env("PORT", "0").env_remove("ECS_CONTAINER_METADATA_URI_V4").stdout(Stdio::piped());
        if let Some(metadata) = metadata {
            command.env("ECS_CONTAINER_METADATA_URI_V4", metadata);
        }
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let line = next_line(&mut output);
        let port = line.strip_prefix("listening on 0.0.0.0:").unwrap().parse().unwrap();
        Self { child, output, port }
    }

    fn get(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn stop(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

fn next_line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn it_tells_what_the_metadata_endpoint_says() {
    let endpoint = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let metadata = format!("http://{}/v4/token", endpoint.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = endpoint.accept().unwrap();
        let line = next_line(&mut BufReader::new(&stream));
        let body = r#"{"TaskARN":"arn:aws:ecs:us-east-1:000000000000:task/default/abc","Limits":{"CPU":0.25,"Memory":512},"Containers":[{"Networks":[{"IPv4Addresses":["172.31.0.9"]}]}]}"#;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{body}").unwrap();
        line
    });
    let mut server = Server::start(Some(&metadata));
    let answer = server.get("GET / HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n");
    assert_eq!(asked.join().unwrap(), "GET /v4/token/task HTTP/1.0");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for text in ["task/default/abc", "172.31.0.9", "0.25", "512"] {
        assert!(answer.contains(text), "{answer}");
    }
    assert_eq!(next_line(&mut server.output), "127.0.0.1 GET / 200");
    server.stop();
}

#[test]
fn without_metadata_it_still_answers() {
    let server = Server::start(None);
    let answer = server.get("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.contains("Hello from Wharf!") && answer.contains("address  127.0.0.1"), "{answer}");
    assert!(server.get("GET /nope HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(server.get("POST / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(server.get("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    server.stop();
}

#[test]
fn a_port_that_is_none_is_told() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_wharf-example-hello")).env("PORT", "http").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "hello: PORT is \"http\", which is no port\n");
}
