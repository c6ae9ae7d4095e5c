// What openapi-generator makes for Go: post, post a batch, follow pages. Arguments: command side, query side, user.
package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"time"

	commands "example.com/commands"
	queries "example.com/queries"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	ctx, user := context.Background(), os.Args[3]
	write := commands.NewConfiguration()
	write.Servers = commands.ServerConfigurations{{URL: os.Args[1]}}
	api := commands.NewAPIClient(write).DefaultAPI
	command := commands.NewCommand(user, "PRODUCT_VIEW")
	command.Payload = map[string]interface{}{"productId": "p-42", "nested": []interface{}{1, map[string]interface{}{"deep": nil}}}
	accepted, _, err := api.GenerateEvent(ctx).Command(*command).IdempotencyKey("posted-by-go").Execute()
	check(err)
	batch, _, err := api.GenerateEvents(ctx).BatchItem([]commands.BatchItem{*commands.NewBatchItem(user, "LOGOUT")}).Execute()
	check(err)
	if !batch.Success || batch.Accepted != 1 {
		check(fmt.Errorf("batch: %+v", batch))
	}
	read := queries.NewConfiguration()
	read.Servers = queries.ServerConfigurations{{URL: os.Args[2]}}
	events := queries.NewAPIClient(read).EventsAPI
	var page []queries.Event
	for len(page) < 2 {
		page, _, err = events.GetProcessedEvents(ctx).UserId(user).Limit(10).Execute()
		check(err)
		time.Sleep(100 * time.Millisecond)
	}
	next, cursor := regexp.MustCompile("cursor=([^&>]+)"), ""
	for count := 0; count < len(page); count++ {
		request := events.GetProcessedEvents(ctx).UserId(user).Limit(1)
		if count > 0 {
			request = request.Cursor(cursor)
		}
		one, answer, err := request.Execute()
		check(err)
		if len(one) != 1 || one[0].EventId != page[count].EventId {
			check(fmt.Errorf("page %d: %+v", count, one))
		}
		if link := next.FindStringSubmatch(answer.Header.Get("Link")); link != nil {
			cursor = link[1]
		}
	}
	found, _, err := events.GetEvent(ctx, accepted.Event.EventId).Execute()
	check(err)
	if len(found.Payload["nested"].([]interface{})) != 2 {
		check(fmt.Errorf("payload: %+v", found.Payload))
	}
	fmt.Printf("['%s', '%s']\n", page[0].EventType, page[1].EventType)
}
