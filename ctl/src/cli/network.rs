//! `heddle network`

use std::net::IpAddr;
use std::num::NonZeroU32;

use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::listings::{Format, list, print_json};
use super::table::{print, say};
use crate::api::{
    self, ApiError, CreateNetwork, Driver, Endpoint, EndpointState, ErrorCode, Filtering, Name,
    RouteSpec, Status, Uplink, UplinkSpec,
};
use crate::client::{Client, Passing, ensure_daemon};
use crate::daemon::leg_job;
use crate::plumb;

/// `heddle network`
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    /// Create a network
    Create(Box<Create>),
    /// List networks
    Ls(Format),
    /// Show a network and who is in it
    Inspect {
        /// The network
        network: Name,
        #[command(flatten)]
        format: Format,
    },
    /// Remove networks that nobody uses
    Rm {
        /// The networks
        #[arg(required = true)]
        networks: Vec<Name>,
    },
}

/// A network to be created.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name
    name: Name,

    /// How its endpoints are joined: a learning bridge, or routed like ipvlan's L3 mode
    #[arg(long, default_value = "bridge", value_name = "bridge|l3", value_parser = parse_driver)]
    driver: Driver,

    /// A subnet, instead of one from the pools; may be repeated
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<IpNet>,

    /// A gateway, instead of its subnet's first address; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,

    /// No IPv4, unless a subnet is given
    #[arg(long)]
    no_ipv4: bool,

    /// No IPv6, unless a subnet is given
    #[arg(long)]
    no_ipv6: bool,

    /// No way out
    #[arg(long)]
    internal: bool,

    /// The way out: a TAP leg in another namespace, or a leg on an interface of this one
    #[arg(long, value_name = "none|netns:PATH|packet:IFACE")]
    uplink: Option<UplinkSpec>,

    /// Longest IP packet, in octets
    #[arg(long, value_name = "OCTETS")]
    mtu: Option<u16>,

    /// Route packets to and from another network; may be repeated
    #[arg(long, value_name = "NETWORK")]
    route_to: Vec<Name>,

    /// Route to addresses behind an endpoint; may be repeated
    #[arg(long, value_name = "CIDR=ADDRESS", value_parser = parse_route)]
    route: Vec<RouteSpec>,

    /// An option: uplink_address=CIDR, uplink_gateway=ADDRESS, port_security=on|off,
    /// filtering=endpoint|address|address-port, mtu=OCTETS, storm_control=FRAMES-A-SECOND|off,
    /// ageing=SECONDS; may be repeated
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE", value_parser = parse_option)]
    options: Vec<(String, String)>,
}

fn parse_driver(text: &str) -> Result<Driver, String> {
    match text {
        "bridge" => Ok(Driver::Bridge),
        "l3" => Ok(Driver::L3),
        _ => Err("the drivers are bridge and l3".to_owned()),
    }
}

fn parse_route(text: &str) -> Result<RouteSpec, String> {
    let (destination, via) = text
        .split_once('=')
        .ok_or("a route is written DESTINATION=ADDRESS")?;
    Ok(RouteSpec {
        destination: destination
            .parse()
            .map_err(|_| format!("{destination:?} is not a network"))?,
        via: via
            .parse()
            .map_err(|_| format!("{via:?} is not an address"))?,
    })
}

fn parse_option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("an option is written KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Create {
    fn into_request(self) -> Result<CreateNetwork, ApiError> {
        let mut uplink = Uplink {
            kind: self.uplink.unwrap_or_default(),
            ..Uplink::default()
        };
        let mut request = CreateNetwork {
            name: self.name,
            driver: self.driver,
            subnets: self.subnet,
            gateways: self.gateway,
            no_ipv4: self.no_ipv4,
            no_ipv6: self.no_ipv6,
            internal: self.internal,
            uplink: None,
            uplink_token: None,
            mtu: self.mtu,
            route_to: self.route_to,
            routes: self.route,
            port_security: true,
            storm_control: api::storm_control(),
            ageing_seconds: api::ageing_seconds(),
        };
        for (key, value) in &self.options {
            set_option(&mut request, &mut uplink, key, value)?;
        }
        request.uplink = Some(uplink);
        Ok(request)
    }
}

fn set_option(
    request: &mut CreateNetwork,
    uplink: &mut Uplink,
    key: &str,
    value: &str,
) -> Result<(), ApiError> {
    let bad = |what: &str| {
        let message = format!("option {key}: {value:?} is not {what}");
        ApiError::new(ErrorCode::InvalidRequest, message)
    };
    match key {
        "mtu" => request.mtu = Some(value.parse().map_err(|_| bad("an MTU"))?),
        "uplink_address" => {
            let address = value
                .parse()
                .map_err(|_| bad("an address with a prefix length"))?;
            uplink.addresses.push(address);
        }
        "uplink_gateway" => {
            uplink
                .gateways
                .push(value.parse().map_err(|_| bad("an address"))?);
        }
        "port_security" => {
            request.port_security = match value {
                "on" => true,
                "off" => false,
                _ => return Err(bad("on or off")),
            }
        }
        "storm_control" => {
            request.storm_control = match value {
                "off" => 0,
                rate => rate
                    .parse::<NonZeroU32>()
                    .map_err(|_| bad("off or a number of frames a second"))?
                    .get(),
            }
        }
        "ageing" => {
            request.ageing_seconds = value.parse().map_err(|_| bad("a number of seconds"))?;
        }
        "filtering" => {
            uplink.filtering = match value {
                "endpoint" => Filtering::Endpoint,
                "address" => Filtering::Address,
                "address-port" => Filtering::AddressPort,
                _ => return Err(bad("endpoint, address or address-port")),
            }
        }
        _ => {
            let message = format!("there is no option {key:?}");
            return Err(ApiError::new(ErrorCode::InvalidRequest, message).hint(
                "there are mtu, uplink_address, uplink_gateway, port_security, filtering, \
                 storm_control and ageing",
            ));
        }
    }
    Ok(())
}

pub(super) fn run(client: &Client, arguments: Arguments) -> Result<(), ApiError> {
    match arguments {
        Arguments::Create(create) => {
            let request = create.into_request()?;
            ensure_daemon(client)?;
            let network = create_network(client, request)?;
            let subnets: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
            say(&format!("{} {}\n", network.name, subnets.join(" ")));
            Ok(())
        }
        Arguments::Ls(format) => {
            let heading = ["NETWORK", "DRIVER", "SUBNETS", "UPLINK", "SANDBOXES"];
            list(
                client,
                "/v1/networks",
                format,
                heading,
                |network: &api::Network| {
                    let subnets: Vec<String> =
                        network.subnets.iter().map(ToString::to_string).collect();
                    [
                        network.name.to_string(),
                        driver_name(network.driver).to_owned(),
                        subnets.join(" "),
                        uplink_text(network),
                        network.sandboxes.len().to_string(),
                    ]
                },
            )
        }
        Arguments::Inspect { network, format } => inspect(client, &network, format),
        Arguments::Rm { networks } => {
            for network in networks {
                client.delete(&format!("/v1/networks/{network}"))?;
                say(&format!("{network}\n"));
            }
            Ok(())
        }
    }
}

/// Creates a network. What the daemon may not open, because it has fewer rights than whoever runs
/// this command, the command opens and passes.
pub(super) fn create_network(
    client: &Client,
    mut request: CreateNetwork,
) -> Result<api::Network, ApiError> {
    let path = "/v1/networks";
    let refused = match client.post(path, &request) {
        Err(error)
            if matches!(
                error.code(),
                ErrorCode::NotPermitted | ErrorCode::NamespaceForbidden
            ) =>
        {
            error
        }
        result => return result,
    };
    let Some(uplink) = &request.uplink else {
        return Err(refused);
    };
    let status: Status = client.get("/v1/status")?;
    let mtu = request.mtu.unwrap_or(1500);
    let job = leg_job(
        &request.name,
        uplink,
        mtu,
        status.workers,
        status.default_endpoint,
    );
    let Some(job) = job else { return Err(refused) };
    // If this command may not either, the daemon's words were as good.
    let parcel = plumb::run_in_child(&job).map_err(|_| refused)?;
    let passing = Passing::pass(client.sockets(), &parcel)?;
    drop(parcel);
    request.uplink_token = Some(passing.token().to_owned());
    client.post(path, &request)
}

fn driver_name(driver: Driver) -> &'static str {
    match driver {
        Driver::Bridge => "bridge",
        Driver::L3 => "l3",
    }
}

fn uplink_text(network: &api::Network) -> String {
    match &network.uplink_fault {
        Some(fault) => format!("{} ({fault})", network.uplink.kind),
        None => network.uplink.kind.to_string(),
    }
}

fn inspect(client: &Client, name: &Name, format: Format) -> Result<(), ApiError> {
    let network: api::Network = client.get(&format!("/v1/networks/{name}"))?;
    let endpoints: Vec<Endpoint> = client.get(&format!("/v1/networks/{name}/endpoints"))?;
    if format.json {
        return print_json(&serde_json::json!({ "network": network, "endpoints": endpoints }));
    }
    let words = |items: Vec<String>| {
        if items.is_empty() {
            "-".to_owned()
        } else {
            items.join(" ")
        }
    };
    let texts = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect();
    say(&format!(
        "network:       {}\ndriver:        {}\nsubnets:       {}\ngateways:      {}\n\
         gateway MAC:   {}\nMTU:           {}\nuplink:        {}\noutside:       {}\n\
         next hops:     {}\nrouted to:     {}\nport security: {}\nstorm control: {}\n\
         ageing:        {} s\n",
        network.name,
        driver_name(network.driver),
        words(network.subnets.iter().map(ToString::to_string).collect()),
        words(texts(&network.gateways)),
        network.gateway_mac,
        network.mtu,
        uplink_text(&network),
        words(
            network
                .uplink
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect()
        ),
        words(texts(&network.uplink.gateways)),
        words(network.route_to.iter().map(ToString::to_string).collect()),
        if network.port_security { "on" } else { "off" },
        match network.storm_control {
            0 => "off".to_owned(),
            rate => format!("{rate} frames/s"),
        },
        network.ageing_seconds,
    ));
    for route in &network.routes {
        say(&format!(
            "route:         {} via {}\n",
            route.destination, route.via
        ));
    }
    if !endpoints.is_empty() {
        say("\n");
        let rows: Vec<_> = endpoints.iter().map(endpoint_row).collect();
        print(
            [
                "SANDBOX",
                "STATE",
                "INTERFACE",
                "MAC",
                "ADDRESSES",
                "ATTACHED BY",
            ],
            &rows,
        );
    }
    Ok(())
}

fn endpoint_row(endpoint: &Endpoint) -> [String; 6] {
    let addresses: Vec<String> = endpoint
        .plan
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let state = match endpoint.state {
        EndpointState::Pending => "pending",
        EndpointState::Up => "up",
    };
    [
        endpoint.sandbox.to_string(),
        state.to_owned(),
        endpoint.plan.interface.clone(),
        endpoint.plan.mac.to_string(),
        addresses.join(" "),
        endpoint.attached_by.clone(),
    ]
}
