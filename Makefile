# The front door; `make help` lists what it opens.
PYTHON ?= python3
PORT ?= 8000
URL ?= http://127.0.0.1:$(PORT)/init
PBX_PORT ?= 8100
APP_URL ?= ws://127.0.0.1:$(PORT)/example.com/devices
STAGE ?= dev
FUZZ_SECONDS ?= 600
BIN := .venv/bin
# Fixed: the packaged template must not depend on where it is made.
export AWS_DEFAULT_REGION ?= eu-central-1

# What is covered by tests of its own; measuring it takes twice the time, so the others go without.
INSIDE := tests/core tests/storage tests/roles tests/gateway

.DEFAULT_GOAL := help
.PHONY: help run serve phone app-client pbx test test-engine fuzz check bench package deploy deploy-edge deploy-gateway pictures audit lock format

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 16

run: .venv/.local ## start everything on http://127.0.0.1:8000, with demo data (PORT=, DYNAMODB_ENDPOINT=)
	@PORT=$(PORT) $(BIN)/python -m local.run

serve: .venv/.local ## the same for a network of its own (DYNAMODB_ENDPOINT= ISSUER= AUDIENCE= HOST= PUBLIC_URL=)
	@PORT=$(PORT) $(BIN)/python -m local.serve

phone: .venv/.local ## a simulated phone (CODE="1234 5678 9012" or LINE= or PROVISIONING_URL=ws://, SYSCLIENT=1 STAY=1 URL= SOURCE=127.0.0.x MAC=)
	@$(BIN)/python -m local.phone --url "$(URL)" $(if $(CODE),--code "$(CODE)") $(if $(LINE),--line "$(LINE)") \
		$(if $(SOURCE),--source "$(SOURCE)") $(if $(MAC),--mac "$(MAC)") $(if $(SYSCLIENT),--sysclient) \
		$(if $(PROVISIONING_URL),--provisioning-url "$(PROVISIONING_URL)") $(if $(STAY),--stay)

app-client: .venv/.local ## log in to AppWebsocket, ask a code, print what is told (APP_URL= DOMAIN= PASSWORD= APP= CATEGORY= SIP=)
	@$(BIN)/python -m local.app_client --url "$(APP_URL)" $(if $(DOMAIN),--domain "$(DOMAIN)") \
		$(if $(PASSWORD),--password "$(PASSWORD)") $(if $(APP),--app "$(APP)") \
		$(if $(CATEGORY),--category "$(CATEGORY)") $(if $(SIP),--sip "$(SIP)")

pbx: .venv/.local ## a PBX to test against, with the demo users (PBX_PORT=8100 PBX_FILE= PBX_USERS="user1,user2")
	@$(BIN)/python -m local.pbx --port "$(PBX_PORT)" $(if $(PBX_FILE),--file "$(PBX_FILE)") \
		$(if $(PBX_USERS),--users "$(PBX_USERS)")

# more than there are cores: browsers and servers wait more than they work
test: .venv/.dev ## all tests, with branch coverage of the rules, the storage, the roles and the gateway
	$(BIN)/python -m pytest -n 3 --dist worksteal $(INSIDE) --cov --cov-report=term
	$(BIN)/python -m pytest -n 3 --dist worksteal $(INSIDE:%=--ignore=%)

test-engine: .venv/.dev .engine/DynamoDBLocal.jar ## the storage, roles and race tests on AWS's DynamoDB Local
	$(BIN)/python -m pytest -n 2 --dist worksteal -m engine --engine=.engine

fuzz: .venv/.dev ## send a gateway whatever a phone could, and let its store fail (FUZZ_SECONDS=600)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -n 0 tests/gateway/test_fuzz.py

check: .venv/.dev ## everything that must hold before a commit; ends with the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

bench: .venv/.dev .engine/DynamoDBLocal.jar ## measure it all against bare botocore, into docs/benchmarks.md (CODES=1000000 PARTS="cold push")
	@CODES="$(CODES)" $(BIN)/python -m benchmarks $(PARTS)

package: .venv/.dev ## what CloudFormation deploys, in build/ (STAGE=dev or prod)
	rm -rf build
	$(BIN)/chalice package --stage $(STAGE) --merge-template infra/resources.json build
	$(BIN)/python -m infra.bytecode build

deploy: package ## show what would change in AWS, change it after a yes (STAGE= BUCKET= PARAMETERS="A=b" YES=1)
	@BUCKET="$(BUCKET)" YES="$(YES)" infra/deploy.sh dialtone-$(STAGE) build/sam.json $(PARAMETERS)

deploy-edge: ## the same for the edge of a stage, in us-east-1 (STAGE= PARAMETERS="A=b" YES=1)
	@AWS_REGION=us-east-1 YES="$(YES)" infra/deploy.sh dialtone-$(STAGE)-edge infra/edge.json $(PARAMETERS)

deploy-gateway: ## the same for the gateway of a stage, whose image is pushed already (STAGE= PARAMETERS="Version=…" YES=1)
	@YES="$(YES)" infra/deploy.sh dialtone-$(STAGE)-gateway infra/gateway.json ServiceStack=dialtone-$(STAGE) $(PARAMETERS)

pictures: .venv/.dev ## take pictures of every page for docs/ (needs chromium)
	$(BIN)/python -m tests.browser.pictures

# B104 and B310 are ruff's S104 and S310, which hold each place with its reason
audit: .venv/.dev ## known vulnerabilities, careless code, and the licences of what ships
	$(BIN)/pip-audit --require-hashes -r requirements-local.txt
	$(BIN)/bandit -q -r -ll -s B104,B310 app.py chalicelib gateway local
	$(BIN)/pip-licenses --order=license --partial-match --allow-only="Apache;BSD;MIT;PSF" \
		-p $$(sed -n 's/^\([A-Za-z0-9._-]*\)==.*/\1/p' requirements.txt gateway/requirements.txt)

format: .venv/.dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/.dev ## compile requirements*.in to hash-locked requirements*.txt
	@for name in requirements requirements-local requirements-dev gateway/requirements; do \
		$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
			--no-header --no-emit-index-url --no-annotate $$name.in -o $$name.txt || exit 1; \
	done

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv

.venv/.local: .venv/bin/python requirements-local.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-local.txt
	@touch $@

.venv/.dev: .venv/.local requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

# AWS's DynamoDB Local, as it is published in an npm package; checked before it is used.
ENGINE := amplify-dynamodb-simulator-2.9.30
ENGINE_SHA512 := xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ==
.engine/DynamoDBLocal.jar:
	mkdir -p .engine
	cd .engine && npm pack --silent amplify-dynamodb-simulator@2.9.30
	test "$$(openssl dgst -sha512 -binary .engine/$(ENGINE).tgz | base64 -w0)" = "$(ENGINE_SHA512)"
	tar -xzf .engine/$(ENGINE).tgz -C .engine --strip-components=2 package/emulator
	rm .engine/$(ENGINE).tgz
	touch $@
