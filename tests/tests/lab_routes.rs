//! Static routes to what is behind an endpoint.

use heddle_switch::Cause;
use heddle_tests::lab::{Lab, SIDES, Side, Told};
use heddle_wire::{Family, MacAddr};

const V4: &Side = &SIDES[0];
const V6: &Side = &SIDES[1];

/// A network with a router among its endpoints.
fn with_route() -> Lab {
    Lab::new(|plan| {
        plan.network("blue")
            .subnet("10.1.0.0/24")
            .subnet("fd00:1::/64")
            .route("10.9.0.0/16", V4.b)
            .route("10.9.1.0/24", V4.c)
            .route("fd09::/32", V6.b)
            .route("fd09:0:1::/48", V6.c)
            .reaches("green");
        plan.network("green")
            .subnet("10.2.0.0/24")
            .subnet("fd00:2::/64")
            .reaches("blue");
        for (name, v4, v6) in [("a", V4.a, V6.a), ("b", V4.b, V6.b), ("c", V4.c, V6.c)] {
            plan.host(name, "blue").address(v4).address(v6);
        }
        plan.host("d", "green").address(V4.d).address(V6.d);
    })
}

#[test]
fn a_static_route_leads_to_the_endpoint_with_the_longest_prefix() {
    for (side, behind_b, behind_c) in [
        (V4, "10.9.7.7", "10.9.1.7"),
        (V6, "fd09:0:7::7", "fd09:0:1::7"),
    ] {
        let mut lab = with_route();
        for (to, via) in [(behind_b, "b"), (behind_c, "c")] {
            let frame = lab.to_gateway("a").ip(side.a, to).udp(1, 2, b"");
            let there = lab
                .from_gateway(via)
                .ip(side.a, to)
                .hop_limit(63)
                .udp(1, 2, b"");
            lab.send("a", &frame).arrives(via, &there);
        }
    }
}

#[test]
fn an_endpoint_that_routes_may_send_for_those_behind_it_and_only_for_those() {
    for (side, behind_b, behind_c) in [
        (V4, "10.9.7.7", "10.9.1.7"),
        (V6, "fd09:0:7::7", "fd09:0:1::7"),
    ] {
        let mut lab = with_route();
        let frame = lab.link("b", "a").ip(behind_b, side.a).udp(2, 1, b"answer");
        lab.send("b", &frame).arrives("a", &frame);
        let frame = lab
            .to_gateway("b")
            .ip(behind_b, side.d)
            .udp(2, 1, b"answer");
        let there = lab
            .from_gateway("d")
            .ip(behind_b, side.d)
            .hop_limit(63)
            .udp(2, 1, b"answer");
        lab.send("b", &frame).arrives("d", &there);
        // What is behind c is not behind b, though b's route covers it too.
        for (host, source) in [("b", behind_c), ("a", behind_b)] {
            let frame = lab.to_gateway(host).ip(source, side.d).udp(2, 1, b"");
            lab.send(host, &frame).drops(host, Cause::AddressSpoofed);
        }
    }
}

#[test]
fn a_route_over_an_endpoint_that_is_not_there_leads_nowhere() {
    for (side, behind_b) in [(V4, "10.9.7.7"), (V6, "fd09:0:7::7")] {
        let mut lab = with_route();
        lab.reconfigure(|plan| plan.remove("b"))
            .forgets("blue", MacAddr::new([2, 0xaa, 0, 0, 0, 1]));
        let frame = lab.to_gateway("a").ip(side.a, behind_b).udp(1, 2, b"");
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::HostUnreachable,
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::HostUnknown);
    }
}

#[test]
fn a_route_leads_to_no_network_that_is_not_routed_to() {
    for side in &SIDES {
        let (route, behind) = match side.family {
            Family::V4 => ("10.9.0.0/16", "10.9.0.1"),
            Family::V6 => ("fd09::/32", "fd09::1"),
        };
        let mut lab = Lab::new(|plan| {
            plan.network("blue")
                .subnet("10.1.0.0/24")
                .subnet("fd00:1::/64")
                .route(route, side.e);
            plan.network("red")
                .subnet("10.3.0.0/24")
                .subnet("fd00:3::/64");
            plan.host("a", "blue").address(V4.a).address(V6.a);
            plan.host("e", "red").address(V4.e).address(V6.e);
        });
        let frame = lab.to_gateway("a").ip(side.a, behind).udp(1, 2, b"");
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::Prohibited,
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::NetworkIsolated);
    }
}

#[test]
fn a_route_into_a_subnet_is_longer_than_the_subnet() {
    for (side, route, behind) in [
        (V4, "10.1.0.128/25", "10.1.0.200"),
        (V6, "fd00:1::8000/113", "fd00:1::8001"),
    ] {
        let mut lab = Lab::new(|plan| {
            plan.network("blue")
                .subnet("10.1.0.0/24")
                .subnet("fd00:1::/64")
                .route(route, side.b);
            plan.host("a", "blue").address(V4.a).address(V6.a);
            plan.host("b", "blue").address(V4.b).address(V6.b);
        });
        let frame = lab.to_gateway("a").ip(side.a, behind).udp(1, 2, b"");
        let there = lab
            .from_gateway("b")
            .ip(side.a, behind)
            .hop_limit(63)
            .udp(1, 2, b"");
        lab.send("a", &frame).arrives("b", &there);
    }
}
