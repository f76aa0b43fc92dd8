# One verb per chore; `run` and `test` do all their own set-up. Needs python3 (3.11 or newer) and make.

PYTHON ?= python3
WORKERS ?= 2
HOST ?= http://127.0.0.1:8000
USERS ?= 32
SECONDS ?= 60
ARGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test check format soak bench load docs audit-deps lock

help: ## list the verbs / 列出全部命令
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

run: ## start the platform with real rides; options: make run ARGS="--exit --json" / 启动平台并导入真实骑行
	@$(PYTHON) bootstrap.py run && exec $(BIN)/tanpuhui demo $(ARGS)

test: check ## everything that CI runs: format, lint, types, import direction, tests / 运行全部检查与测试
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not soak" $(ARGS)

check: ## the quick half: format, lint, types, import direction / 快速检查
	@$(PYTHON) bootstrap.py dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: ## put the code into its one format / 统一代码格式
	@$(PYTHON) bootstrap.py dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

soak: ## the tests that take long: kills, thousands of edits / 长时间测试
	@$(PYTHON) bootstrap.py dev
	@$(BIN)/pytest -n0 -m soak $(ARGS)

bench: ## measure rates and latencies on this machine / 本机性能测量
	@$(PYTHON) bootstrap.py load && exec $(BIN)/python -m load_tests.bench $(ARGS)

load: ## Locust users against a running platform; HOST, USERS, SECONDS / 对运行中的平台施加负载
	@$(PYTHON) bootstrap.py load && exec $(BIN)/locust -f load_tests/locustfile.py --headless \
		--host "$(HOST)" --users $(USERS) --spawn-rate $(USERS) --run-time $(SECONDS)s $(ARGS)

docs: ## check that the documents describe what there is / 检查文档是否完整
	@$(PYTHON) bootstrap.py dev
	@$(BIN)/pytest -n0 tests/test_docs.py $(ARGS)

audit-deps: ## look at what we depend on: pins, hashes, licences; without a network / 检查依赖：版本、哈希与许可
	@$(PYTHON) bootstrap.py dev
	@$(BIN)/python -m tests.dependencies

lock: ## pin the dependencies again after a change in pyproject.toml / 重新锁定依赖
	@$(PYTHON) bootstrap.py lock $(ARGS)
