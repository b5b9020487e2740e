"""Gateway and Dagster on the internet: a tunnel, and Access before it.

Belongs here: the tunnel, what it leads to, who may pass. Does not belong here: the containers at
its other end (`infra/docker`).
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_cloudflare as cloudflare
from settings import Settings, Tunnel

GATEWAY = "http://gateway:8700"  # as the containers are called among themselves
DAGSTER = "http://webserver:3000"


@dataclass(frozen=True)
class Reached:
    token: pulumi.Output[str]  # for cloudflared
    audience: pulumi.Output[str]  # the gateway's AUD tag


def make_access(settings: Settings, tunnel: Tunnel) -> Reached:
    """Everybody signs in at Access, before the gateway's own login and instead of the one that
    Dagster does not have. A hostname is pointed here only when its application is there, and
    cloudflared lets nobody in whom Access has not seen."""
    who = cloudflare.ZeroTrustAccessPolicy(
        "people",
        account_id=settings.account_id,
        name=f"{settings.prefix}-people",
        decision="allow",
        session_duration="24h",
        includes=[
            cloudflare.ZeroTrustAccessPolicyIncludeArgs(
                email=cloudflare.ZeroTrustAccessPolicyIncludeEmailArgs(email=email)
            )
            for email in tunnel.emails
        ],
    )
    doors = {"gateway": (tunnel.gateway_hostname, GATEWAY)}
    if tunnel.dagster_hostname:
        doors["dagster"] = (tunnel.dagster_hostname, DAGSTER)
    applications = {
        name: _application(settings, name, hostname, who) for name, (hostname, _) in doors.items()
    }
    line = cloudflare.ZeroTrustTunnelCloudflared(
        "tunnel", account_id=settings.account_id, name=settings.prefix, config_src="cloudflare"
    )
    ingress = cloudflare.ZeroTrustTunnelCloudflaredConfigConfigIngressArgs
    led = cloudflare.ZeroTrustTunnelCloudflaredConfig(
        "tunnel-doors",
        account_id=settings.account_id,
        tunnel_id=line.id,
        source="cloudflare",
        config=cloudflare.ZeroTrustTunnelCloudflaredConfigConfigArgs(
            ingresses=[
                *(
                    ingress(
                        hostname=hostname,
                        service=service,
                        origin_request=_only_through_access(tunnel, applications[name]),
                    )
                    for name, (hostname, service) in doors.items()
                ),
                ingress(service="http_status:404"),
            ]
        ),
    )
    for name, (hostname, _) in doors.items():
        cloudflare.DnsRecord(
            f"{name}-name",
            zone_id=tunnel.zone_id,
            name=hostname,
            type="CNAME",
            content=line.id.apply(lambda tunnel_id: f"{tunnel_id}.cfargotunnel.com"),
            proxied=True,
            ttl=1,  # with `proxied`, Cloudflare's own
            opts=pulumi.ResourceOptions(depends_on=[applications[name], led]),
        )
    token = cloudflare.get_zero_trust_tunnel_cloudflared_token_output(
        account_id=settings.account_id, tunnel_id=line.id
    )
    return Reached(
        pulumi.Output.secret(token.apply(lambda found: found.token)), applications["gateway"].aud
    )


def _application(
    settings: Settings, name: str, hostname: str, who: cloudflare.ZeroTrustAccessPolicy
) -> cloudflare.ZeroTrustAccessApplication:
    return cloudflare.ZeroTrustAccessApplication(
        f"{name}-application",
        account_id=settings.account_id,
        name=f"{settings.prefix}-{name}",
        type="self_hosted",
        domain=hostname,
        destinations=[
            cloudflare.ZeroTrustAccessApplicationDestinationArgs(type="public", uri=hostname)
        ],
        session_duration="24h",
        http_only_cookie_attribute=True,
        enable_binding_cookie=False,
        policies=[cloudflare.ZeroTrustAccessApplicationPolicyArgs(id=who.id, precedence=1)],
    )


def _only_through_access(
    tunnel: Tunnel, application: cloudflare.ZeroTrustAccessApplication
) -> cloudflare.ZeroTrustTunnelCloudflaredConfigConfigIngressOriginRequestArgs:
    team = tunnel.team.removeprefix("https://").removesuffix(".cloudflareaccess.com")
    return cloudflare.ZeroTrustTunnelCloudflaredConfigConfigIngressOriginRequestArgs(
        access=cloudflare.ZeroTrustTunnelCloudflaredConfigConfigIngressOriginRequestAccessArgs(
            required=True, team_name=team, aud_tags=[application.aud]
        )
    )
