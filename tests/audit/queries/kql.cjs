// Parses and binds KQL with Microsoft's own parser, against the tables as Azure Monitor describes them; run where
// node_modules has it. Each argument is a file with a query.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");

const load = createRequire(`${process.cwd()}/`);
load("@kusto/language-service-next/bridge.min");
load("@kusto/language-service-next/Kusto.Language.Bridge.min");
const { GlobalState, KustoCode, Symbols } = Kusto.Language;

const tables = {
  ContainerLogV2: `(TimeGenerated: datetime, Computer: string, ContainerId: string, ContainerName: string,
    PodName: string, PodNamespace: string, LogMessage: dynamic, LogSource: string, LogLevel: string,
    KubernetesMetadata: dynamic)`,
  AKSAudit: `(TimeGenerated: datetime, Annotations: dynamic, AuditId: string, Level: string, ObjectRef: dynamic,
    PodName: string, RequestObject: dynamic, RequestReceivedTime: datetime, RequestUri: string, ResponseObject: dynamic,
    ResponseStatus: dynamic, SourceIps: dynamic, Stage: string, StageReceivedTime: datetime, User: dynamic,
    UserAgent: string, Verb: string)`,
};
const symbols = Object.entries(tables).map(([name, columns]) => new Symbols.TableSymbol.$ctor7(name, columns, null));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor("monitor", symbols));

for (const file of process.argv.slice(2)) {
  const found = KustoCode.ParseAndAnalyze(readFileSync(file, "utf8"), globals).GetDiagnostics();
  for (let index = 0; index < found.Count; index++) {
    console.error(`${file}: ${found.getItem(index).Message}`);
    process.exitCode = 1;
  }
}
