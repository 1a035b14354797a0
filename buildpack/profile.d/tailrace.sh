# shellcheck shell=sh
# Adds tailrace to PATH. Sourced in every dyno and in every shell of ps:exec: it must not set anything else, and must not fail.
case ":${PATH-}:" in
*":${HOME-}/.tailrace/bin:"*) ;;
*) export PATH="${HOME-}/.tailrace/bin${PATH:+:${PATH}}" ;;
esac
