// Shows each document of the page, with "try it" against the process that serves the page.
'use strict';

// A batch as lines of JSON: its example is shown as an array, and sent as one line for each item.
function asLines(request) {
  const type = (request.headers || {})['Content-Type'] || '';
  if (type.startsWith('application/x-ndjson') && typeof request.body === 'string') {
    try {
      const items = JSON.parse(request.body);
      if (Array.isArray(items)) request.body = items.map((item) => JSON.stringify(item) + '\n').join('');
    } catch {
      // Already lines.
    }
  }
  return request;
}

for (const element of document.querySelectorAll('.document')) {
  SwaggerUIBundle({
    url: element.dataset.url,
    domNode: element,
    requestInterceptor: asLines,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
}
