#!/usr/bin/python3
"""One libtorrent client. Prints `ready`; `go` on its standard input starts it; prints `complete` when it has the file.

Its one argument is a JSON object:
  torrent    path of the metainfo file
  directory  where the file is, or is to be
  listen     address:port
  peers      [[address, port], ...] to dial at the start
  seed       it has the file already: starts at once and never waits for `go`
  mode       default: as libtorrent comes, over TCP alone
             tuned: and every peer may be sent to at once, with deep queues
             super-seed: tuned, and a seed reveals pieces one by one (BEP 16)
Each further line of its standard input is answered with the same word and the payload bytes that it has sent.
"""
import json
import sys
import threading

import libtorrent as lt

# uTP, which it would try first, gives way to other traffic and costs three times the CPU on such links.
TCP_ALONE = {"enable_outgoing_utp": False, "enable_incoming_utp": False}
TUNED = {
    "unchoke_slots_limit": -1,
    "choking_algorithm": 0,  # fixed_slots_choker
    "connections_limit": 1000,
    "connection_speed": 500,
    "torrent_connect_boost": 200,
    "out_enc_policy": 2,  # pe_disabled
    "in_enc_policy": 2,
    "max_out_request_queue": 1500,
    "max_allowed_in_request_queue": 2000,
    "send_buffer_watermark": 3 * 1024 * 1024,
    "send_buffer_watermark_factor": 150,
    "send_buffer_low_watermark": 10 * 1024,
    "max_queued_disk_bytes": 64 * 1024 * 1024,
    "peer_turnover": 0,
    "close_redundant_connections": False,
    "suggest_mode": 0,
}


def main():
    plan = json.loads(sys.argv[1])
    settings = {
        "listen_interfaces": plan["listen"],
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        **TCP_ALONE,
        "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.error_notification,
    }
    if plan["mode"] != "default":
        settings.update(TUNED)
    session = lt.session(settings)
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(plan["torrent"])
    params.save_path = plan["directory"]
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    params.flags |= lt.torrent_flags.disable_dht | lt.torrent_flags.disable_lsd
    if plan["seed"]:
        params.flags |= lt.torrent_flags.seed_mode
        if plan["mode"] == "super-seed":
            params.flags |= lt.torrent_flags.super_seeding
    else:
        print("ready", flush=True)
        if sys.stdin.readline() == "":
            return
    torrent = session.add_torrent(params)
    for address, port in plan["peers"]:
        torrent.connect_peer((address, port))
    if plan["seed"]:
        print("ready", flush=True)
    threading.Thread(target=listen, args=(torrent,), daemon=True).start()
    while True:
        session.wait_for_alert(10_000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.torrent_finished_alert) and not plan["seed"]:
                print("complete", flush=True)
            if isinstance(alert, (lt.torrent_error_alert, lt.listen_failed_alert)):
                sys.exit(alert.message())


def listen(torrent):
    for line in sys.stdin:
        print(line.strip(), torrent.status().total_payload_upload, flush=True)


main()
