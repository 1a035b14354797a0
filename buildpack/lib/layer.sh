# shellcheck shell=bash
# What the lifecycle is told of our layers (Cloud Native Buildpack API 0.10): `agent` goes into the image, `download`
# stays for the next build.

layer::describe() {
	local layers="$1" sum
	sum="$(sha256sum <"${layers}/agent/bin/tailrace-agent")"
	sum="${sum%% *}"
	cat >"${layers}/agent.toml" <<-TOML
		[types]
		launch = true
		build = false
		cache = false

		[metadata]
		version = "${BINARY_VERSION}"
		triple = "${BINARY_TRIPLE}"
		sha256 = "${sum}"
	TOML
	cat >"${layers}/agent.sbom.cdx.json" <<-JSON
		{
		  "bomFormat": "CycloneDX",
		  "specVersion": "1.5",
		  "version": 1,
		  "components": [
		    {
		      "type": "application",
		      "name": "tailrace",
		      "version": "${BINARY_VERSION}",
		      "purl": "pkg:generic/tailrace@${BINARY_VERSION}?arch=${BINARY_TRIPLE%%-*}",
		      "hashes": [{ "alg": "SHA-256", "content": "${sum}" }],
		      "licenses": [{ "expression": "MIT OR Apache-2.0" }]
		    }
		  ]
		}
	JSON
	mkdir -p "${layers}/download"
	cat >"${layers}/download.toml" <<-TOML
		[types]
		launch = false
		build = false
		cache = true
	TOML
}
