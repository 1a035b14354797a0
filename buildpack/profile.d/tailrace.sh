# shellcheck shell=sh
# Adds tailrace to PATH, and says so when this dyno's entry is not what the build wrapped, because another buildpack replaced the
# Procfile afterwards. Sourced in every dyno and in every shell of ps:exec: it must not set anything else, and must not fail.
case ":${PATH-}:" in
*":${HOME-}/.tailrace/bin:"*) ;;
*) export PATH="${HOME-}/.tailrace/bin${PATH:+:${PATH}}" ;;
esac
(
	name="${DYNO-}"
	name="${name%%.*}"
	case "${name}" in
	"" | run | scheduler | release | *[!A-Za-z0-9_-]*) exit 0 ;;
	*) ;;
	esac
	built="${HOME-}/.tailrace/procfile"
	[ ! -t 2 ] && [ -r "${built}" ] && [ -r "${HOME-}/Procfile" ] || exit 0
	[ "$(cat "${built}")" != "$(cat "${HOME-}/Procfile")" ] || exit 0
	grep -q "^[[:blank:]]*${name}:" "${HOME-}/Procfile" || exit 0
	! grep -q "^[[:blank:]]*${name}:.*tailrace" "${HOME-}/Procfile" || exit 0
	# Not wrapped by the build either: that was a decision.
	[ -e "${HOME-}/.tailrace/types/${name}" ] || ! grep -q "^[[:blank:]]*${name}:" "${built}" || exit 0
	printf 'tailrace at=not-shipping error="the Procfile was replaced after the build wrapped it" detail="%s runs without tailrace" try="put the buildpack that replaces it before tailrace"\n' "${name}" >&2
) || :
