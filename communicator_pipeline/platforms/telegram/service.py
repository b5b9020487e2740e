"""What Telegram says of a chat, in English words: the text of service messages.

The actions are those of Telegram Desktop's `export_output_json.cpp` (read 2026-11).
"""

from __future__ import annotations

from typing import Any

_SENTENCES = {
    "allow_sending_messages": "allowed the bot to send messages",
    "attach_menu_bot_allowed": "added the bot to the attachment menu",
    "boost_apply": "boosted the group",
    "clear_history": "cleared the history",
    "create_channel": 'created the channel "{title}"',
    "create_group": 'created the group "{title}" with {members}',
    "delete_group_photo": "removed the group's photo",
    "edit_chat_theme": "changed the chat's theme to {emoticon}",
    "edit_group_photo": "changed the group's photo",
    "edit_group_title": 'renamed the group to "{title}"',
    "group_call": "started a group call",
    "group_call_scheduled": "scheduled a group call",
    "invite_members": "invited {members}",
    "invite_to_group_call": "invited {members} to the group call",
    "join_group_by_link": "joined by an invite link",
    "join_group_by_request": "was let in after asking to join",
    "joined_telegram": "joined Telegram",
    "migrate_from_group": 'turned the group "{title}" into this supergroup',
    "migrate_to_supergroup": "turned this group into a supergroup",
    "paid_messages_price_change": "changed the price of messages",
    "phone_call": "called",
    "pin_message": "pinned a message",
    "proximity_reached": "came near",
    "remove_members": "removed {members}",
    "requested_peer": "shared a contact with the bot",
    "requested_phone_number": "shared the phone number",
    "score_in_game": "scored {score} in a game",
    "send_passport_values": "sent passport data",
    "send_payment": "paid {amount} {currency}",
    "send_premium_gift": "gave Telegram Premium",
    "send_star_gift": "sent a gift",
    "send_webview_data": "sent data to the bot",
    "set_chat_wallpaper": "changed the chat's wallpaper",
    "set_messages_ttl": "changed when messages delete themselves",
    "set_same_chat_wallpaper": "set the same wallpaper",
    "suggest_profile_photo": "suggested a profile photo",
    "take_screenshot": "took a screenshot",
    "topic_created": 'opened the topic "{title}"',
    "topic_edit": 'changed the topic to "{new_title}"',
}


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "…"


def sentence(item: dict[str, Any]) -> str:
    """`Maya pinned a message`; an action that is new to us is named as it is spelled."""
    actor = str(item.get("actor") or item.get("from") or "Somebody")
    action = str(item.get("action") or "")
    if not action and item.get("information_text"):
        return f"{actor}: {item['information_text']}"
    members = item.get("members")
    names = [str(name or "somebody") for name in members] if isinstance(members, list) else []
    if action == "remove_members" and names == [actor]:
        return f"{actor} left"
    if action == "invite_members" and names == [actor]:
        return f"{actor} joined"
    values = _Values({key: str(value) for key, value in item.items() if value is not None})
    values["members"] = ", ".join(names) or "nobody"
    if action in _SENTENCES:
        words = _SENTENCES[action].format_map(values)
    else:
        words = action.replace("_", " ") or "did something"
    return f"{actor} {words}{_lasted(item)}"


def _lasted(item: dict[str, Any]) -> str:
    seconds = item.get("duration_seconds", item.get("duration"))
    if type(seconds) is int and seconds > 0:
        return f" ({seconds // 60} min)" if seconds >= 60 else f" ({seconds} s)"
    missed = {"missed": " (missed)", "busy": " (busy)"}
    return missed.get(str(item.get("discard_reason")), "")
