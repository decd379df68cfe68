//! `DescribeRouteTables`.

use wharf_core::ApiError;
use wharf_ec2_api::types;

use crate::records;
use crate::select::{Kind, Selection, check_dry_run, select, texts};
use crate::view::View;

const KIND: Kind<types::RouteTable> = Kind {
    id: |table| table.route_table_id.as_deref().unwrap_or_default(),
    not_found: "InvalidRouteTableID.NotFound",
    noun: "routeTable ID",
    parameter: "RouteTableIds",
    filters: &[
        ("route-table-id", |table| texts(table.route_table_id.as_ref())),
        ("vpc-id", |table| texts(table.vpc_id.as_ref())),
        ("owner-id", |table| texts(table.owner_id.as_ref())),
        ("association.route-table-association-id", |table| {
            associations(table, |one| one.route_table_association_id.clone())
        }),
        ("association.route-table-id", |table| associations(table, |one| one.route_table_id.clone())),
        ("association.subnet-id", |table| associations(table, |one| one.subnet_id.clone())),
        ("association.gateway-id", |table| associations(table, |one| one.gateway_id.clone())),
        ("association.main", |table| associations(table, |one| one.main.map(|main| main.to_string()))),
        ("route.destination-cidr-block", |table| routes(table, |one| one.destination_cidr_block.clone())),
        ("route.gateway-id", |table| routes(table, |one| one.gateway_id.clone())),
        ("route.origin", |table| routes(table, |one| one.origin.as_ref().map(ToString::to_string))),
        ("route.state", |table| routes(table, |one| one.state.as_ref().map(ToString::to_string))),
        ("route.destination-ipv6-cidr-block", |_| Vec::new()),
        ("route.destination-prefix-list-id", |_| Vec::new()),
        ("route.egress-only-internet-gateway-id", |_| Vec::new()),
        ("route.instance-id", |_| Vec::new()),
        ("route.nat-gateway-id", |_| Vec::new()),
        ("route.transit-gateway-id", |_| Vec::new()),
        ("route.vpc-peering-connection-id", |_| Vec::new()),
    ],
    tags: |one| one.tags.as_deref().unwrap_or_default(),
};

fn associations(
    table: &types::RouteTable,
    field: fn(&types::RouteTableAssociation) -> Option<String>,
) -> Vec<String> {
    table.associations.iter().flatten().filter_map(field).collect()
}

fn routes(table: &types::RouteTable, field: fn(&types::Route) -> Option<String>) -> Vec<String> {
    table.routes.iter().flatten().filter_map(field).collect()
}

pub fn describe(
    view: &View,
    input: types::DescribeRouteTablesRequest,
) -> Result<types::DescribeRouteTablesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let selection = Selection {
        ids: input.route_table_ids.unwrap_or_default(),
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let all = view.all::<records::RouteTable>().map(|table| shown(view, &table)).collect();
    let (tables, next_token) = select(&KIND, all, &selection)?;
    Ok(types::DescribeRouteTablesResult { route_tables: Some(tables), next_token })
}

fn shown(view: &View, table: &records::RouteTable) -> types::RouteTable {
    let route = |to: String, gateway: &str, origin| types::Route {
        destination_cidr_block: Some(to),
        gateway_id: Some(gateway.to_owned()),
        origin: Some(origin),
        state: Some(types::RouteState::Active),
        ..Default::default()
    };
    let mut routes = vec![route(table.local.to_string(), "local", types::RouteOrigin::CreateRouteTable)];
    if let Some(gateway) = &table.internet_gateway_id {
        routes.push(route("0.0.0.0/0".to_owned(), gateway, types::RouteOrigin::CreateRoute));
    }
    types::RouteTable {
        route_table_id: Some(table.id.clone()),
        vpc_id: Some(table.vpc_id.clone()),
        owner_id: Some(view.owner_id()),
        associations: Some(vec![types::RouteTableAssociation {
            main: Some(true),
            route_table_association_id: Some(table.main_association_id.clone()),
            route_table_id: Some(table.id.clone()),
            association_state: Some(types::RouteTableAssociationState {
                state: Some(types::RouteTableAssociationStateCode::Associated),
                ..Default::default()
            }),
            ..Default::default()
        }]),
        propagating_vgws: Some(Vec::new()),
        routes: Some(routes),
        tags: Some(view.tags(&table.id)),
    }
}
