# shellcheck shell=sh
# tailrace on PATH. Sourced in every dyno and in every shell of ps:exec: it sets nothing else, and cannot fail.
case ":${PATH-}:" in
*":${HOME-}/.tailrace/bin:"*) ;;
*) export PATH="${HOME-}/.tailrace/bin${PATH:+:${PATH}}" ;;
esac
