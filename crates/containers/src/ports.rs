//! Published ports: listeners of the server that pass on what comes to a container's address.
//!
//! In user space, so that every address of the host works, loopback included, without rules in the
//! host's tables. A listener is bound before its container starts (a port that is taken is told, and
//! nothing has happened), and closed when it ends; a restarted server binds it again.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::config::{PortConfig, Protocol};

/// Connections of one published port at a time; the next ones wait in the listener's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Peers of one published UDP port at a time; what comes from others is dropped.
const PEERS_MAX: usize = 1024;
/// A UDP peer that is silent for so long is forgotten.
const PEER_IDLE: Duration = Duration::from_secs(60);
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// Datagrams that wait for a peer's task.
const DATAGRAMS_QUEUED_MAX: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("port {address}:{port}/{} is already allocated", protocol.as_str())]
    Taken { address: IpAddr, port: u16, protocol: Protocol },
    #[error("cannot listen on {address}:{port}/{}: {source}", protocol.as_str())]
    Listen {
        address: IpAddr,
        port: u16,
        protocol: Protocol,
        #[source]
        source: io::Error,
    },
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Ports that are listened on and answered by nobody yet.
pub struct Bound {
    sockets: Vec<(PortConfig, Socket)>,
}

/// Ports that are served; dropping it closes them and all that goes through them.
pub struct Published {
    _tasks: JoinSet<()>,
}

/// Binds all, or none.
pub async fn bind(ports: &[PortConfig]) -> Result<Bound, PortError> {
    let mut sockets = Vec::with_capacity(ports.len());
    for port in ports {
        let address = SocketAddr::new(port.address, port.host_port);
        let bound = match port.protocol {
            Protocol::Tcp => TcpListener::bind(address).await.map(Socket::Tcp),
            Protocol::Udp => UdpSocket::bind(address).await.map(Socket::Udp),
        };
        let named = bound.and_then(|socket| {
            let local = match &socket {
                Socket::Tcp(listener) => listener.local_addr()?,
                Socket::Udp(socket) => socket.local_addr()?,
            };
            Ok((PortConfig { host_port: local.port(), ..*port }, socket))
        });
        sockets.push(named.map_err(|source| {
            let (address, port, protocol) = (port.address, port.host_port, port.protocol);
            match source.kind() {
                io::ErrorKind::AddrInUse => PortError::Taken { address, port, protocol },
                _ => PortError::Listen { address, port, protocol, source },
            }
        })?);
    }
    Ok(Bound { sockets })
}

impl Bound {
    /// With the ports that were chosen.
    pub fn ports(&self) -> Vec<PortConfig> {
        self.sockets.iter().map(|(port, _)| *port).collect()
    }

    /// Passes on to this address from now on.
    pub fn serve(self, to: Ipv4Addr) -> Published {
        let mut tasks = JoinSet::new();
        for (port, socket) in self.sockets {
            let target = SocketAddr::from((to, port.container_port));
            match socket {
                Socket::Tcp(listener) => tasks.spawn(serve_tcp(listener, target)),
                Socket::Udp(socket) => tasks.spawn(serve_udp(socket, target)),
            };
        }
        Published { _tasks: tasks }
    }
}

async fn serve_tcp(listener: TcpListener, target: SocketAddr) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                connections.spawn(async move {
                    pass(client, target).await;
                    drop(place);
                });
            }
            // Out of descriptors, or a peer that is gone already.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// A connection that cannot be passed on is reset, as a port without a listener would be.
async fn pass(mut client: TcpStream, target: SocketAddr) {
    let Ok(mut container) = TcpStream::connect(target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), container.set_nodelay(true));
    // Its end is theirs.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut container).await;
}

async fn serve_udp(socket: UdpSocket, target: SocketAddr) {
    let socket = Arc::new(socket);
    let mut peers: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok((length, peer)) = socket.recv_from(&mut datagram).await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        peers.retain(|_, queue| !queue.is_closed());
        if !peers.contains_key(&peer) {
            if peers.len() >= PEERS_MAX {
                continue;
            }
            let (queue, datagrams) = mpsc::channel(DATAGRAMS_QUEUED_MAX);
            tasks.spawn(serve_peer(Arc::clone(&socket), peer, target, datagrams));
            peers.insert(peer, queue);
        }
        if let Some(queue) = peers.get(&peer) {
            // UDP loses what nobody takes.
            let _ = queue.try_send(datagram[..length].to_vec());
        }
    }
}

async fn serve_peer(
    outside: Arc<UdpSocket>,
    peer: SocketAddr,
    target: SocketAddr,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) {
    let Ok(inside) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else { return };
    if inside.connect(target).await.is_err() {
        return;
    }
    let mut answer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let step = async {
            tokio::select! {
                datagram = datagrams.recv() => match datagram {
                    Some(datagram) => inside.send(&datagram).await.map_or(true, |_| true),
                    None => false,
                },
                received = inside.recv(&mut answer) => match received {
                    Ok(length) => outside.send_to(&answer[..length], peer).await.is_ok(),
                    // Nobody listens there yet: the next one may find somebody.
                    Err(_) => true,
                },
            }
        };
        match tokio::time::timeout(PEER_IDLE, step).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn port(protocol: Protocol, container_port: u16) -> PortConfig {
        PortConfig { address: Ipv4Addr::LOCALHOST.into(), host_port: 0, container_port, protocol }
    }

    #[tokio::test]
    async fn what_comes_to_a_published_port_reaches_the_container_and_back() {
        let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bound = bind(&[port(Protocol::Tcp, inside.local_addr().unwrap().port())]).await.unwrap();
        let outside = bound.ports()[0].host_port;
        assert_ne!(outside, 0);
        let taken = PortConfig { host_port: outside, ..bound.ports()[0] };
        assert!(matches!(bind(&[taken]).await, Err(PortError::Taken { .. })));

        let published = bound.serve(Ipv4Addr::LOCALHOST);
        let mut client = TcpStream::connect(("127.0.0.1", outside)).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut container, _) = inside.accept().await.unwrap();
        let mut asked = String::new();
        // The end of the client's side arrives, and the answer still goes back.
        container.read_to_string(&mut asked).await.unwrap();
        container.write_all(b"pong").await.unwrap();
        drop(container);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((asked.as_str(), answer.as_str()), ("ping", "pong"));

        drop(published);
        while TcpStream::connect(("127.0.0.1", outside)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn datagrams_find_their_way_back_to_the_peer_that_asked() {
        let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let bound = bind(&[port(Protocol::Udp, inside.local_addr().unwrap().port())]).await.unwrap();
        let outside = bound.ports()[0].host_port;
        let _published = bound.serve(Ipv4Addr::LOCALHOST);
        let mut peers = Vec::new();
        for name in [b"a", b"b"] {
            let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            peer.connect(("127.0.0.1", outside)).await.unwrap();
            peer.send(name).await.unwrap();
            peers.push(peer);
        }
        let mut datagram = [0; 16];
        for _ in 0..2 {
            let (length, from) = inside.recv_from(&mut datagram).await.unwrap();
            inside.send_to(&datagram[..length], from).await.unwrap();
        }
        for (peer, name) in peers.iter().zip([b"a", b"b"]) {
            let length = peer.recv(&mut datagram).await.unwrap();
            assert_eq!(&datagram[..length], name);
        }
    }
}
