// Runs @elastic/mockotlpserver and says on stdout, one JSON object a line, where it listens and
// what it received. It ends when its stdin ends, so that it never outlives the test.
//
// usage: node mockotlp.js FOLDER   (FOLDER holds node_modules)

const path = require('path');
const {createRequire} = require('module');

const fromFolder = createRequire(path.join(path.resolve(process.argv[2]), 'package.json'));
const {MockOtlpServer} = fromFolder('@elastic/mockotlpserver');
const {normalizeTrace, normalizeLogs, normalizeMetrics} = fromFolder(
    '@elastic/mockotlpserver/lib/normalize'
);

function say(kind, value) {
    process.stdout.write(JSON.stringify({kind, value}) + '\n');
}

const server = new MockOtlpServer({
    services: ['http', 'grpc'],
    httpHostname: '127.0.0.1',
    httpPort: 0,
    grpcHostname: '127.0.0.1',
    grpcPort: 0,
    logLevel: 'error',
    onTrace: (request) => say('traces', normalizeTrace(request)),
    onLogs: (request) => say('logs', normalizeLogs(request)),
    onMetrics: (request) => say('metrics', normalizeMetrics(request)),
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
server.start().then(() =>
    say('listening', {http: String(server.httpUrl), grpc: String(server.grpcUrl)})
);
