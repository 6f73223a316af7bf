//! Simulated sockets, seen through the face.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use crate::buffer::{AppendBuf, Slice};
use crate::net::{Listener, Stream};
use crate::sim::{Simulation, reset_connections};
use crate::task::{Class, spawn};
use crate::time;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Both ends of a connection, the connecting one first.
async fn connected() -> (Stream, Stream, SocketAddr) {
    let listener = Listener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    let connecting = spawn(Class::Network, async move {
        Stream::connect(address).await.unwrap()
    });
    let (accepted, peer) = listener.accept().await.unwrap();
    assert_eq!(accepted.peer_addr().unwrap(), peer);
    (connecting.await.unwrap(), accepted, address)
}

/// Receives until the end, and tells in how many pieces it came.
async fn receive_all(stream: &Stream) -> (Vec<u8>, usize) {
    let mut received = Vec::new();
    for pieces in 0.. {
        let (result, buffer) = stream.recv(AppendBuf::with_capacity(1 << 16)).await;
        if result.unwrap() == 0 {
            return (received, pieces);
        }
        received.extend_from_slice(buffer.as_slice());
    }
    unreachable!("the stream ends");
}

#[test]
fn bytes_arrive_in_order_and_in_pieces() {
    for seed in 0..20 {
        Simulation::new(seed).run(async {
            let (client, server, _) = connected().await;
            let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
            let parts: Vec<_> = bytes
                .chunks(10_007)
                .map(|part| Slice::from(part.to_vec()))
                .collect();
            let sending = spawn(Class::Network, async move {
                client.send(parts).await.unwrap();
                client.shutdown();
            });
            let (received, pieces) = receive_all(&server).await;
            assert!(received == bytes && pieces > 100, "{pieces} pieces");
            sending.await.unwrap();
        });
    }
}

#[test]
fn sender_waits_for_a_slow_receiver() {
    Simulation::new(1).run(async {
        let (client, server, _) = connected().await;
        let parts = (0..100).map(|_| Slice::from(vec![0; 10_000])).collect();
        let sending = client.send(parts);
        assert!(
            time::timeout(Duration::from_secs(9), sending)
                .await
                .is_err()
        );
        drop(client);
        let (received, _) = receive_all(&server).await;
        assert!(received.len() < 300_000, "{}", received.len());
    });
}

#[test]
fn shutdown_lets_what_was_sent_out_and_then_ends() {
    Simulation::new(1).run(async {
        let (client, server, _) = connected().await;
        client
            .send(vec![Slice::from(b"last words".to_vec())])
            .await
            .unwrap();
        client.shutdown();
        server.hung_up().await;
        assert_eq!(receive_all(&server).await.0, b"last words");
        assert!(client.send(vec![Slice::from(vec![1])]).await.is_err());
        // The other direction finds nobody who reads.
        let refused = server.send(vec![Slice::from(vec![1])]).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn hang_up_is_not_seen_while_the_peer_talks() {
    Simulation::new(1).run(async {
        let (client, server, _) = connected().await;
        client.send(vec![Slice::from(vec![1])]).await.unwrap();
        let watched = time::timeout(Duration::from_secs(1), server.hung_up()).await;
        assert!(watched.is_err());
        drop(client);
        server.hung_up().await;
    });
}

#[test]
fn shutdown_read_ends_a_receive_and_leaves_the_sending_side() {
    Simulation::new(1).run(async {
        let (client, server, _) = connected().await;
        let waiting = server.clone();
        let receiving = spawn(Class::Network, async move { receive_all(&waiting).await });
        time::sleep(Duration::from_secs(1)).await;
        server.shutdown_read();
        assert!(receiving.await.unwrap().0.is_empty());
        server
            .send(vec![Slice::from(b"answer".to_vec())])
            .await
            .unwrap();
        server.shutdown();
        assert_eq!(receive_all(&client).await.0, b"answer");
    });
}

#[test]
fn reset_breaks_both_ends() {
    Simulation::new(1).run(async {
        let (client, server, address) = connected().await;
        client.send(vec![Slice::from(vec![1])]).await.unwrap();
        reset_connections(address);
        for end in [client, server] {
            end.hung_up().await;
            let (received, _) = end.recv(AppendBuf::with_capacity(10)).await;
            assert_eq!(received.unwrap_err().kind(), ErrorKind::ConnectionReset);
            let sent = end.send(vec![Slice::from(vec![1])]).await;
            assert_eq!(sent.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn addresses_are_taken_once_and_refuse_when_free() {
    Simulation::new(1).run(async {
        let listener = Listener::bind(ANY).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(
            Listener::bind(address).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        drop(listener);
        let refused = Stream::connect(address).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        Listener::bind(address).unwrap();
    });
}
