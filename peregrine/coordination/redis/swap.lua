-- Write a text in the place of the version that we have seen. A value is "<version> <text>"; 0: there is none.
if (redis.call('GET', KEYS[1]) or '0 '):match('^%d+') ~= ARGV[1] then return 0 end
return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) and 1
